"""Digital phantoms of brains: axial T1 slices of whole heads, made offline from the MNI152 tissue maps in nilearn.

No picture made here shows a real person. Every subject is the MNI152 average brain (ICBM 2009, nonlinear symmetric;
Fonov et al. 2011, doi 10.1016/j.neuroimage.2010.07.033) with
  1. a shape of its own: size, tilt, a random smooth deformation, ventricles that widen with age;
  2. a cortex of its own: sulci are the zero surfaces of a random field, the grey ribbon follows them;
  3. a head around the brain: cerebrospinal fluid, skull with marrow, muscle, fat and skin as shells;
  4. a scan of its own: contrast, bias field, blur of the scanner and Rician noise.

Voxels are ordered (z, x, y): slice from low to high, row from the subject's left to right, column from the back of the
head to the nose. Lengths are in mm unless a name or comment says px.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

from gan_utils.data import DATASETS
from prepare.phantom_files import new_set, run_all
from prepare.splines import spline_weights

SLICES_PER_SUBJECT = 32
SLICE_STEP = 1.25  # mm between neighbouring slices
MIDDLE_SLICE = 11.5  # mm above the MNI origin: slices run from -7.9 (floor of third ventricle) to +30.9
FIELD_OF_VIEW = 236.0  # mm across the square picture
CORTEX_THICKNESS = 2.5  # mm of grey matter between the pia and the white matter
NODE_STEP = 3.0  # mm between the nodes on which shapes are worked out: shapes are smooth
FINE_SIZE = 128  # px; smaller pictures are averaged from one of twice the size, larger ones need not be

MARK_TEXT = """Digital phantoms of brains. No picture here shows a real person.

Simulated by prepare/brain_phantom.py of the DCGAN tutorial from the MNI152 tissue maps in nilearn:
write_brain_phantoms(folder, image_size={size}, subjects={subjects}, seed={seed})
Laid out like the OASIS PNG slices: keras_png_slices_data/keras_png_slices_{{train,validate,test}}.
This folder may be deleted; the tutorial makes it again when it needs it.
"""


class Volume(NamedTuple):
    """Voxels (z, x, y), the MNI position of the first one and the voxel size, both in mm."""

    voxels: np.ndarray
    first: np.ndarray
    spacing: float

    def sample(self, points):
        """Values (z, x, y) at `points` (3, z, x, y) in MNI mm, by linear interpolation."""
        index = (points - as_column(self.first)) / np.float32(self.spacing)
        return ndimage.map_coordinates(self.voxels, index, order=1, mode="nearest")


class Template(NamedTuple):
    """What all subjects share; distances are in mm, negative inside."""

    grey_matter: Volume  # probability 0..1
    white_matter: Volume  # probability 0..1; the ventricles are filled with the tissue around them
    ventricle_distance: Volume
    brain_distance: Volume  # to the brain with its sulci filled
    head_distance: Volume  # to a smooth hull around the brain, which the skull follows


class Grid(NamedTuple):
    """Heights of slices and positions of rows and columns in mm; 0 is the middle of the scan."""

    z: np.ndarray
    x: np.ndarray
    y: np.ndarray


class Head(NamedTuple):
    """One subject on the voxels of the scan; every array is (z, x, y) unless said otherwise."""

    grid: Grid
    pixel: float  # mm
    age: float  # 0 young .. 1 old
    points: np.ndarray  # (3, z, x, y) MNI position of every voxel in mm
    head_distance: np.ndarray
    brain_distance: np.ndarray
    ventricle_distance: np.ndarray


def as_column(vector):
    """A vector of three as (3, 1, 1, 1), which fits points (3, z, x, y)."""
    return np.asarray(vector, np.float32).reshape(3, 1, 1, 1)


# ---- the template ---------------------------------------------------------------------------------------


def signed_distance(inside, spacing):
    """Distance to the border of a mask in mm, negative inside."""
    within, outside = ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside)
    # Distances count from voxel to voxel; the border is half a voxel before the next one.
    return (np.where(inside, 0.5 - within, outside - 0.5) * spacing).astype(np.float32)


def hull_distance(tissue, first, spacing, radius, blur):
    """Smoothed signed distance to the tissue closed with a ball of `radius` mm."""
    grown = ndimage.distance_transform_edt(~tissue) * spacing < radius
    closed = ndimage.distance_transform_edt(grown) * spacing > radius
    return Volume(ndimage.gaussian_filter(signed_distance(closed, spacing), blur / spacing), first, spacing)


def keep_ventricles(fluid, low):
    """Remove cisterns and fissures from a fluid mask (z, x, y) whose first voxel is at `low` (MNI mm)."""
    z, x, y = np.ix_(*[np.arange(n) + start for n, start in zip(fluid.shape, low, strict=True)])
    side = np.abs(x)
    third_ventricle = (side < 5) & (y > -28) & (y < 8) & (z < 18)
    cistern = (y < -26) & (side < np.where(y < -42, 14, 9))  # behind the thalamus, with the medial sulci
    lateral_ventricle = (side >= 2) & (side < np.where(y > -20, 26, 34)) & (y > -58) & (z > -6) & ~cistern
    labels, _ = ndimage.label(fluid & (third_ventricle | lateral_ventricle))
    large = np.bincount(labels.ravel()) > 1000  # mm^3: the third and two lateral ventricles
    large[0] = False
    return large[labels]


@lru_cache(maxsize=1)
def load_template():
    """Load the MNI152 tissue maps and measure distances in them, once."""
    from nilearn import datasets  # here, because importing it takes seconds

    loaders = datasets.load_mni152_gm_template, datasets.load_mni152_wm_template
    images = [load(resolution=1) for load in loaders]
    grey, white = (np.array(image.dataobj, np.float32).transpose(2, 0, 1) for image in images)
    first = images[0].affine[[2, 0, 1], 3]

    tissue = (grey + white)[::2, ::2, ::2] > 0.4  # outlines are smooth: every second voxel is enough
    brain_distance = hull_distance(tissue, first, 2.0, radius=6.0, blur=1.6)
    head_distance = hull_distance(tissue, first, 2.0, radius=16.0, blur=4.0)

    low, high = np.array([-30, -56, -82]), np.array([54, 57, 58])  # box, 25 mm around the ventricles
    box = tuple(slice(int(a), int(b)) for a, b in zip(low - first, high - first, strict=True))
    distance = signed_distance(keep_ventricles(1 - grey[box] - white[box] > 0.5, low), 1.0)
    # Ventricles and their blurred rim take the nearest tissue: ventricles of any size are painted over it.
    nearest = ndimage.distance_transform_edt(distance < 2, return_distances=False, return_indices=True)
    grey[box], white[box] = grey[box][tuple(nearest)], white[box][tuple(nearest)]
    ventricle_distance = Volume(ndimage.gaussian_filter(distance, 0.8), low, 1.0)

    slab = slice(int(-50 - first[0]), int(75 - first[0]))  # all that a tilted slice can reach
    first = first + np.array([slab.start, 0, 0])
    maps = [Volume(np.ascontiguousarray(voxels[slab]), first, 1.0) for voxels in (grey, white)]
    return Template(*maps, ventricle_distance, brain_distance, head_distance)


# ---- smooth random fields: given by nodes in mm, so a subject is the same at every image size ------------


def node_counts(spacing):
    """Nodes along z, x and y that cover the scan with a margin for the splines."""
    lengths = SLICES_PER_SUBJECT * SLICE_STEP, FIELD_OF_VIEW, FIELD_OF_VIEW
    return [2 * int(np.ceil(length / 2 / spacing)) + 5 for length in lengths]


def node_grid(spacing):
    """Positions of the nodes."""
    return Grid(*[((np.arange(n) - (n - 1) / 2) * spacing).astype(np.float32) for n in node_counts(spacing)])


def evaluate_spline(nodes, spacing, grid):
    """Smooth field on the grid from node values (z, x, y) that are `spacing` mm apart."""
    for positions in grid:  # each turn replaces the nodes of one axis by positions and moves it to the end
        count, *rest = nodes.shape
        values = spline_weights(positions / spacing, count) @ nodes.reshape(count, -1)
        nodes = np.ascontiguousarray(values.T).reshape(*rest, -1)
    return nodes


def smooth_field(rng, spacing, grid):
    """Random field of mean 0 and standard deviation 1 that changes over about `spacing` mm."""
    noise = rng.standard_normal(node_counts(spacing), dtype=np.float32)
    return evaluate_spline(noise / np.float32(0.33), spacing, grid)  # the spline keeps 0.33 of the deviation


def smooth_deformation(rng, step):
    """Displacement (3, z, x, y) in mm on nodes `step` mm apart that folds nothing over.

    A random velocity is followed for a short time, then the motion is doubled four times (scaling and squaring,
    Arsigny et al. 2006, doi 10.1007/11866565_113).
    """
    grid = node_grid(step)
    whole_head, gyri = (np.stack([smooth_field(rng, s, grid) for _ in range(3)]) for s in (75.0, 14.0))
    motion = (2.0 * whole_head + 1.4 * gyri) / 2**4
    index = np.indices(motion.shape[1:], dtype=np.float32)
    for _ in range(4):
        target = index + motion / step
        motion = motion + [ndimage.map_coordinates(m, target, order=1, mode="nearest") for m in motion]
    return motion


# ---- one subject ----------------------------------------------------------------------------------------


def subject_nodes(rng):
    """MNI position (3, z, x, y) in mm of nodes `NODE_STEP` apart: the shape of the subject."""
    overall, by_axis = rng.normal(0, 0.03), rng.normal(0, 0.025, 3)
    size = np.minimum(0.95 * np.exp(overall + by_axis), 1.0)  # MNI152 is a large head
    yaw_pitch_roll = rng.normal(0, [3.5, 5.0, 2.5])
    matrix = Rotation.from_euler("xyz", yaw_pitch_roll, degrees=True).as_matrix() @ np.diag(1 / size)
    centre = np.array([MIDDLE_SLICE, 0.0, -17.0]) + rng.normal(0, [3.0, 1.5, 2.0])
    nodes = np.stack(np.meshgrid(*node_grid(NODE_STEP), indexing="ij"))
    nodes = np.einsum("ij,jzxy->izxy", matrix.astype(np.float32), nodes) + as_column(centre)
    deformation = smooth_deformation(rng, 2 * NODE_STEP)
    nodes += np.stack([evaluate_spline(d, 2 * NODE_STEP, node_grid(NODE_STEP)) for d in deformation])
    return nodes


def widen_ventricles(points, growth, spacing):
    """Points with the tissue pushed up to `growth` mm outwards, and their distance to the new ventricles."""
    distance = load_template().ventricle_distance.sample(points)
    outward = np.stack(np.gradient(distance, *spacing))
    push = np.float32(growth) * np.exp(-np.square(np.maximum(distance, 0) / 14))  # fades away from them
    side = np.abs(points[1])
    push *= np.clip(side / 22, 0.3, 1)  # the third ventricle widens less, lateral ones more to the sides
    septum = np.minimum(3 * distance, 1 - side)  # the wall between left and right stays
    return points - outward * push, np.maximum(distance - push, septum)


def find_window(inside, image_size):
    """Rows and columns (px) of the rectangle that holds the head; all around it is black."""
    window = []
    for axis in (1, 2):
        found = np.flatnonzero(inside.any(axis=(0, 3 - axis))) - (inside.shape[axis] - 1) / 2
        edges = (found[[0, -1]] * NODE_STEP / FIELD_OF_VIEW + 0.5) * image_size
        window.append(slice(max(int(edges[0]) - 1, 0), min(int(edges[1]) + 2, image_size)))
    return tuple(window)


def make_head(rng, age, image_size, fine):
    """A `Head` with `fine` voxels a pixel, and the window of the picture that it fills."""
    nodes = subject_nodes(rng)
    brain_distance = load_template().brain_distance.sample(nodes)
    # Skulls are smoother than the brains in them.
    head_distance = ndimage.gaussian_filter(load_template().head_distance.sample(nodes), 6.0 / NODE_STEP)
    window = find_window(head_distance < 26, image_size)
    pixel = FIELD_OF_VIEW / (image_size * fine)
    heights = (np.arange(SLICES_PER_SUBJECT) - (SLICES_PER_SUBJECT - 1) / 2) * SLICE_STEP
    in_plane = [(np.arange(w.start * fine, w.stop * fine) + 0.5) * pixel - FIELD_OF_VIEW / 2 for w in window]
    grid = Grid(*[positions.astype(np.float32) for positions in (heights, *in_plane)])
    *points, head, brain = (
        evaluate_spline(values, NODE_STEP, grid) for values in (*nodes, head_distance, brain_distance)
    )
    growth = 9 * age - 0.5 + rng.normal(0, 0.7)
    points, ventricles = widen_ventricles(np.stack(points), growth, spacing=(SLICE_STEP, pixel, pixel))
    return Head(grid, pixel, age, points, head, brain, ventricles), window


# ---- brain ----------------------------------------------------------------------------------------------


def smooth_step(distance, width):
    """From 0 below zero to 1 above, soft over `width` mm: voxels at a border hold a part of each tissue."""
    ramp = distance / np.float32(width)
    ramp += 0.5
    np.clip(ramp, 0, 1, out=ramp)
    return ramp * ramp * (3 - 2 * ramp)


def sulcus_distance(rng, axis, outward, radius):
    """Distance in mm to the nearest sulcus of this subject, as if sulci had no floor.

    A random field is read at points pulled together along the way out from the axis of the hemisphere. So it hardly
    changes with depth, and its zero surfaces run inwards as sulci do; value / slope is a distance.
    """
    step = 2.0  # mm
    noise = rng.standard_normal((54, 78, 96), dtype=np.float32)
    narrow, wide = (ndimage.gaussian_filter(noise, width / step, mode="wrap") for width in (3.0, 6.0))
    field = narrow - wide  # one band of sizes: gyri are about equally wide
    slope = np.sqrt(sum(g * g for g in np.gradient(field, step)))
    distance = field / (slope + 0.35 * slope.mean())

    stretch = np.minimum((40 + 0.2 * (radius - 40)) / radius, 1.5)
    first = np.array([10, 0, -18]) - np.array(field.shape) * step / 2
    index = (axis + outward * stretch - as_column(first)) / np.float32(step)
    return np.abs(ndimage.map_coordinates(distance, index, order=1, mode="wrap")) / stretch


def depth_below_folds(rng, head):
    """Depth in mm below the folded surface of this subject, and the distance to the axis of the hemisphere."""
    z, x, y = head.points
    axis = np.stack([np.full_like(z, 8), np.where(x < 0, -22, 22).astype(np.float32), np.clip(y, -50, 12)])
    outward = head.points - axis
    radius = np.sqrt((outward * outward).sum(0)) + 1e-3
    half_width = np.clip(0.1 + 0.7 * head.age + 0.3 * smooth_field(rng, 25.0, head.grid), 0, 1.8)
    floor = np.clip(18 + 8 * smooth_field(rng, 10.0, head.grid), 6, 32)  # mm below the outline of the brain
    outline = -np.maximum(head.brain_distance, head.head_distance) - 1.5 * head.age  # brains shrink
    below_floor = np.maximum(-head.brain_distance - floor, 0)
    sulcus = np.hypot(sulcus_distance(rng, axis, outward, radius), below_floor) - half_width
    between_hemispheres = np.abs(x + 0.8 * smooth_field(rng, 14.0, head.grid)) - 0.6 - 0.8 * head.age
    return np.minimum(np.minimum(sulcus, between_hemispheres), outline), radius


def paint_brain(rng, head):
    """T1 picture (z, x, y), 0..1, of the brain in its fluid.

    Tissue follows from the depth below the pia. Outside, that is the folded surface of the subject; inside (basal
    ganglia, insula, medial cortex) the template's probabilities are turned into such a depth.
    """
    template = load_template()
    grey, white = template.grey_matter.sample(head.points), template.white_matter.sample(head.points)
    fluid = np.maximum(1 - grey - white, 0)
    template_depth = CORTEX_THICKNESS / 2 * (3 * white + grey - (1.2 + head.age) * fluid)
    folded_depth, radius = depth_below_folds(rng, head)
    outer = smooth_step(27 + head.head_distance, 12.0) * smooth_step(radius - 30, 10.0)
    depth = template_depth + outer * (folded_depth - template_depth)
    depth += 0.25 * smooth_field(rng, 5.0, head.grid)

    fluid_tone, grey_tone, white_tone = rng.normal([0.12, 0.44, 0.74], [0.02, 0.025, 0.02]).tolist()
    softness = max(head.pixel, 1.2) + (1 - outer)  # mm
    grey_tones = grey_tone * (1 + 0.06 * smooth_field(rng, 12.0, head.grid))
    picture = fluid_tone + (grey_tones - fluid_tone) * smooth_step(depth, softness)
    picture += (white_tone - grey_tones) * smooth_step(depth - CORTEX_THICKNESS, softness + 0.7)
    picture *= 1 + 0.025 * smooth_field(rng, 6.0, head.grid)
    ventricle = smooth_step(-head.ventricle_distance, max(head.pixel, 1.2))
    return picture + (fluid_tone - picture) * ventricle


# ---- head and scanner -----------------------------------------------------------------------------------


def head_layers(rng, head):
    """Thickness in mm and tone of the layers around the brain, from the inside outwards."""
    z, x, y = head.points
    slow, medium, fine = (smooth_field(rng, spacing, head.grid) for spacing in (70.0, 30.0, 10.0))
    at_back, at_front = smooth_step(-70 - y, 30.0), smooth_step(y - 50, 20.0)
    at_side = smooth_step(np.abs(x) - 45, 20.0)

    fluid = np.clip(1.5 + 2 * head.age + 0.7 * medium, 0.5, 6)
    sagittal_sinus = rng.uniform(2, 6) * np.exp(-((x / 7) ** 2)) * at_back
    skull = rng.normal(5.5, 0.8) + 0.8 * slow + 0.5 * medium + at_back + at_front
    skull = np.clip(skull - 0.7 * sagittal_sinus, 2.5, 12)
    frontal_sinus = rng.uniform(0, 4) * np.exp(-((x / 24) ** 2) - ((z + 9) / 9) ** 2) * at_front  # air
    temporal_muscle = rng.uniform(4, 9) * np.exp(-(((y - 8) / 22) ** 2) - ((z + 14) / 24) ** 2) * at_side
    fat = rng.normal(3.2, 0.7) + 0.6 * slow + 0.7 * medium + 0.3 * fine - 0.25 * temporal_muscle

    marrow_tone = np.clip(rng.uniform(0.15, 0.5) + 0.1 * medium + 0.06 * fine, 0.03, 0.6)
    marrow_tone = marrow_tone * np.exp(-frontal_sinus)
    fat_tone = np.clip(rng.uniform(0.65, 1.0) + 0.12 * medium + 0.1 * fine, 0.4, 1.3)
    bone_tone, skin_tone = 0.04, 0.35
    return [
        (fluid + sagittal_sinus, 0.13 + 0.03 * sagittal_sinus),
        (0.25 * skull, bone_tone),
        (0.47 * skull + frontal_sinus, marrow_tone),
        (0.28 * skull, bone_tone),
        (temporal_muscle, 0.36 + 0.03 * fine),
        (np.clip(fat, 1.2, 9), fat_tone),
        (1.6, skin_tone),
        (0.0, 0.0),  # air
    ]


def add_head(rng, brain, head):
    """Put fluid, skull, muscle, fat and skin around the brain."""
    picture, start = brain, -0.5  # mm outside the hull of the brain
    for thickness, tone in head_layers(rng, head):
        picture = picture + (tone - picture) * smooth_step(head.head_distance - start, max(head.pixel, 1.2))
        start = start + thickness
    return picture


def scan(rng, picture, head):
    """What the scanner does before noise: contrast, bias field, blur."""
    bias_field = np.exp(rng.uniform(0.04, 0.12) * smooth_field(rng, 110.0, head.grid))
    picture = np.maximum(picture, 0) ** rng.uniform(0.9, 1.15) * bias_field * rng.uniform(0.85, 1.1)
    blur = max(0.6 / head.pixel, 0.55)  # px; at least about the width of a pixel, or detail would be aliased
    return ndimage.gaussian_filter(picture, (0, blur, blur))


def add_rician_noise(rng, picture, sigma):
    """Magnitude of the signal with complex noise (Gudbjartsson & Patz 1995, doi 10.1002/mrm.1910340618)."""
    real, imaginary = rng.standard_normal((2, *picture.shape), dtype=np.float32) * np.float32(sigma)
    return np.hypot(picture + real, imaginary)


def check_size(image_size):
    """Refuse sizes at which nothing can be seen."""
    if image_size < 32:
        raise ValueError(f"image_size is {image_size}; use at least 32 px, a smaller head is a blot")


def simulate_brain(subject, image_size=256, seed=1):
    """The axial T1 slices of one subject, nose to the right: the same anatomy at every size, other noise.

    Args:
        subject: 0 or more; every number is another subject.
        image_size: height and width in px, at least 32.
        seed: another seed gives another set of subjects.

    Returns:
        uint8 (32, image_size, image_size), 0..255; slices 1.25 mm apart, from low to high.
    """
    check_size(image_size)
    if subject < 0:
        raise ValueError(f"subject is {subject}; use 0 or more")
    subject_rng = np.random.default_rng([seed, subject])
    shape_rng, brain_rng, head_rng, scan_rng = subject_rng.spawn(4)
    age = subject_rng.beta(1.2, 1.5)
    fine = 1 if image_size >= FINE_SIZE else 2  # voxels a pixel along each side

    head, window = make_head(shape_rng, age, image_size, fine)
    picture = add_head(head_rng, paint_brain(brain_rng, head), head)
    picture = scan(scan_rng, picture, head)
    slices, rows, columns = picture.shape
    frame = np.zeros((slices, image_size, image_size), np.float32)
    blocks = picture.reshape(slices, rows // fine, fine, columns // fine, fine)
    frame[:, *window] = blocks.mean(axis=(2, 4))
    frame = add_rician_noise(scan_rng, frame, sigma=scan_rng.uniform(0.004, 0.015))
    return (np.clip(frame, 0, 1) * 255).astype(np.uint8)


# ---- files ----------------------------------------------------------------------------------------------


def write_brain_phantoms(folder, image_size, subjects=80, seed=1, progress=None):
    """Write digital phantoms as 8-bit grey PNG files, named and laid out as OASIS's are.

    60 % of the subjects train, 15 % validate and 25 % test: against few subjects no metric is steady.

    All or nothing; SIMULATED.txt beside the splits says what they are.

    Args:
        folder: `pathlib.Path`, to be made; it must not exist. Missing parents are made.
        image_size: height and width in px, at least 32.
        subjects: at least 3, of 32 slices each, numbered from 1.
        seed: another seed gives another set of subjects.
        progress: called as progress(done, total) after each subject.

    Raises:
        FileExistsError: `folder` exists.
        ValueError: too few subjects, or image_size is too small.
    """
    if subjects < 3:
        raise ValueError(f"subjects is {subjects}; use at least 3: one each to train, validate and test")
    check_size(image_size)
    dataset = DATASETS["brain"]
    validate, test = (max(1, round(share * subjects)) for share in (0.15, 0.25))
    splits = ["train"] * (subjects - validate - test) + ["validate"] * validate + ["test"] * test
    with new_set(folder, dataset.folder, MARK_TEXT.format(size=image_size, subjects=subjects, seed=seed)) as root:
        for name in dataset.split_folders.values():
            (root / name).mkdir()
        places = [root / dataset.split_folders[split] for split in splits]
        load_template()  # once, before the threads start
        jobs = [partial(write_subject, place, n, image_size, seed) for n, place in enumerate(places, start=1)]
        run_all(jobs, progress)


def write_subject(folder, subject, image_size, seed):
    """Write the slices of one subject as PNG."""
    for number, picture in enumerate(simulate_brain(subject, image_size, seed)):
        Image.fromarray(picture).save(folder / f"case_{subject:03d}_slice_{number}.nii.png")
