"""From the baseline to the improved recipe one change at a time, for notebooks/05_improve_the_gan.ipynb.

steps     which changes, in which order, and three failures made on purpose
training  every step trained for the same time and judged; `python -m gan_utils.ablation`
figures   what came of it, as graphs and tables
"""
