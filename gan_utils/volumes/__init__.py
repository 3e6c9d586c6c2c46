"""Scans of your own, NIfTI or Analyze volumes, cut into the PNG slices of the published layouts.

paths    which files are volumes, whose they are, and where the slices go
cutting  one volume to its slices
folder   all of them; `python -m gan_utils.volumes FOLDER`
"""
