"""The helpers behind the notebooks, one idea a module, in the order the notebooks meet them.

settings         what to train, on what, how large and how long
layouts          the two published folder layouts: file names, and who belongs to which split
png_slices       one PNG file -> a square picture
datasets         PNG slices from disk to training batches
networks         the pairs of generator and discriminator, two published and one improved
dcgan            one training step, as a Keras model
devices          how it is computed: number format, XLA, steps per call and how many devices, chosen from what is there
callbacks        what happens after each epoch
alarms           the ranges that healthy runs keep to, and words for when one is left
similarity       SSIM, the figure the published reports use
realism          figures that tell real from generated where SSIM does not
people           what a figure says about people, of whom each has many slices
inception        KID, for those who have the weights of InceptionV3
latent_walk      images on the way from one latent to the next
samples          images from a trained generator, to take along
figures          image grids, the progress GIF, the graphs
realism_figures  graphs and tables of what realism and people measure
runs             the folder that holds everything a run leaves behind
train            notebook 3's training as a command, for several machines too
arguments        what the commands are told
progress         lines that say how far long work has come

Beside the path through the notebooks, in folders of their own:

simulation/      people that do not exist, for a first run without data
volumes/         scans of your own, cut into slices
ablation/        from the baseline to the improved recipe, one change at a time

`python -m gan_utils` runs all notebooks in order (`make run` calls it).
"""

import os

# Several notebooks may be open at once: none of them should take all of a GPU's memory.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
