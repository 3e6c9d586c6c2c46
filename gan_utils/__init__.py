"""The helpers behind the notebooks, one idea a module, in the order the notebooks meet them.

settings          what to train, on what, how large and how long
layouts           the two published folder layouts: file names, and who belongs to which split
datasets          PNG slices from disk to training batches
simulated_brains  people that do not exist, for a first run without data
drawn_knees       the same for knees
simulated_files   how both are written to disk
networks          the two published pairs of generator and discriminator
dcgan             one training step, as a Keras model
similarity        SSIM, the figure the published reports use
callbacks         what happens after each epoch
runs              the folder that holds everything a run leaves behind
progress          lines that say how far long work has come
figures           image grids, the progress GIF, the graphs

`python -m gan_utils` runs all notebooks in order (`make run` calls it).
"""

import os

# Several notebooks may be open at once: none of them should take all of a GPU's memory.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
