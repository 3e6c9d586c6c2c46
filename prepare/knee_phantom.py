"""Digital phantoms of knees: axial slices with the look of the DESS scans of AKOA, painted from tables and chance.

No picture painted here shows a real person and no scan went into one: most structures are tubes of ellipses, given by
the tables below, whose sizes and tones were set by eye beside one real knee. A slice is painted from below to on top:
  1. subcutaneous fat with strands and veins, muscles, the vessels behind the knee;
  2. what fills the notch of the femur, capsule, tendon, joint fluid, cartilage;
  3. the bones, femur and patella, black with fatty marrow; skin, and air around the leg;
  4. what the scanner adds: gain of the coil, fold-over at both edges, noise and blur.
The slices end above the joint line, so there is neither tibia nor meniscus.

Frame of a right knee, in mm: x grows to the right of the picture (towards the other leg), y grows downwards (to the
front of the knee), height is that above the joint line. A left knee is mirrored in x. Shapes are given as distances in
mm to their surface, negative inside. Tones are fractions of white. Arrays are (row, column) unless said otherwise.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from gan_utils.data import DATASETS
from prepare.phantom_files import new_set, run_all
from prepare.splines import spline_weights

SLICES_PER_KNEE = 40
SLICE_STEP = 1.2  # mm between neighbouring slices
TOP_SLICE = 57.0  # mm: slices run from the thigh down to +10.2
FIELD_OF_VIEW = 100.0, 114.0  # mm, height and width of the picture
SMALLEST_SHAPE = 57, 65  # px, height and width; larger pictures have two or four times that
EMPTY_MARGIN = 1 / 26  # part of the width that is empty at the left and right edge, as in AKOA
ALIKE = 0.95  # how much the two knees of a patient have in common: 0 nothing, 1 everything

SPELLINGS = {"RIGHT": ("RIGHT", "Right", "right", "R_I_G_H_T"), "LEFT": ("LEFT", "Left", "left", "L_E_F_T")}

# fmt: off
# Tubes: rows of height, x, y, half width, half depth (mm) and tilt (degrees). Negative width: ends between two rows.
MUSCLES = {
    "vastus medialis": [(64, 33, 8, 15, 27, 32), (48, 37, 12, 9, 17, 31), (38, 40, 14, -3, 5, 30)],
    "vastus lateralis": [(64, -36, 3, 10, 19, 12), (48, -38, 4, 6, 12, 10), (39, -36, 5, -3, 3, 10)],
    "biceps femoris": [(64, -38, -33, 11, 21, 18), (40, -42, -27, 8, 19, 15), (6, -46, -15, 4, 13, 10)],
    "outer gastrocnemius": [(54, -20, -24, -3, 4, 0), (40, -21, -29, 10, 10, 5), (6, -17, -42, 18, 15, 0)],
    "inner gastrocnemius": [(62, 8, -22, -3, 6, -30), (48, 10, -30, 10, 18, -28), (6, 17, -44, 22, 19, 0)],
    "semimembranosus": [(64, 14, -42, 21, 18, 30), (40, 32, -42, 11, 13, 5), (6, 38, -36, 4, 6, 0)],
    "semitendinosus": [(64, -2, -54, 10, 8, 0), (40, 22, -56, 7, 7, 0), (6, 36, -50, 3, 4, 0)],
    "sartorius": [(64, 52, -17, 7, 17, -8), (36, 51, -17, 5, 16, -8), (6, 49, -15, 3.5, 12, -8)],
}
SHAFT = [  # of the femur, a rounded box; lower down it is what joins the condyles in front
    (64, -1, 1, 20, 14.5, 4), (44, 0, 3, 28, 17.5, 3), (34, 0, 6, 31, 19, 0),
    (24, 0, 10, 31, 16, 0), (16, 0, 14, 27, 9, 0), (4, 0, 21, 16, 2, 0)]
CONDYLES = {
    "outer": [(50, -17, -4, -5, 6, 0), (42, -18, -6, 13, 16, -2), (22, -20, -4, 16, 27, -6), (4, -18, 0, 11, 22, -6)],
    "inner": [(46, 20, 0, -5, 6, 20), (38, 20, -2, 13, 15, 20), (22, 21, 0, 14, 25, 30), (4, 19, 1, 9, 21, 30)],
}
NOTCH = [(44, 1, -26, -3, 3, 0), (38, 1, -27, 8, 8, 0), (20, 1, -16, 10.5, 18, 4), (4, 3, -6, 10, 28, 8)]
ANTERIOR_LIGAMENT = [(34, -6, -20, -3, 4, 0), (28, -6, -17, 3, 6, 10), (16, -3, -10, 4, 6, 20), (4, 0, -2, 5, 5, 20)]
POSTERIOR_LIGAMENT = [(30, 6, -10, -3, 4, 0), (24, 6, -9, 3, 6, -15), (14, 6, -15, 4, 6, -10), (4, 5, -22, 5, 5, 0)]
ARTERY = [(64, 2, -23, 2.6, 2.6, 0), (6, -2, -28, 2.3, 2.3, 0)]  # these three run behind the femur
VEIN = [(64, -2, -29, 3.2, 3.2, 0), (6, -4, -34, 2.9, 2.9, 0)]
NERVE = [(64, -6, -32, 2.4, 2.4, 0), (6, 1, -39, 2.2, 2.2, 0)]
FEMUR_FRONT = [(64, 16), (44, 21), (34, 23.5), (20, 24), (4, 20)]  # height, y

# Mean and standard deviation of what differs between knees: lengths in mm, angles in degrees, tones, factors; the
# amounts of fluid are logarithms.
ANATOMY = {
    "size": (1.0, 0.06), "turn": (8, 9), "x": (0, 3.0), "y": (0, 3.0), "height": (0, 3.5),
    "leg width": (53, 3), "leg tilt": (-6, 6), "fat layer": (5.0, 1.6), "skin tone": (0.24, 0.05),
    "fat tone": (0.115, 0.02), "strands": (0.12, 0.04), "veins": (0.9, 0.12),
    "muscle size": (1.0, 0.05), "muscle tone": (0.36, 0.04), "fibres": (0.35, 0.12), "marbling": (0.05, 0.4),
    "femur width": (1.0, 0.04), "condyle size": (1.0, 0.035), "outer back": (0, 1.2), "inner back": (0, 1.2),
    "groove": (1.0, 0.22), "notch": (1.0, 0.1), "marrow": (0.02, 0.008),
    "patella x": (-5, 2.5), "patella height": (46, 2.5), "patella length": (21, 1.3), "patella tilt": (-0.04, 0.06),
    "joint gap": (3.2, 0.5), "cartilage": (2.5, 0.35), "cartilage tone": (0.43, 0.05), "wear": (0.2, 0.3),
    "outer fluid": (-0.1, 0.6), "inner fluid": (-0.6, 0.6), "outer fluid y": (6, 4), "inner fluid y": (12, 4),
    "pouch": (0.4, 0.8),
}
EACH_MUSCLE = {"x": (0, 1.6), "y": (0, 1.6), "size": (1.0, 0.08), "turn": (0, 5), "tone": (1.0, 0.06)}
ANATOMY |= {f"{name} {trait}": spread for name in MUSCLES for trait, spread in EACH_MUSCLE.items()}
SCAN = {  # the same for what differs between scans of one knee; noise is that of a picture 114 px high
    "moved x": (0, 1.0), "moved y": (0, 1.0), "moved height": (0, 0.8), "turned": (0, 2),
    "gain": (1.08, 0.15), "coil": (0.25, 0.12), "thigh gain": (0.15, 0.08),
    "blur": (0.30, 0.05), "noise": (0.032, 0.012), "black": (0.04, 0.008),
}
# Random fields: how fast they change along height, y and x, in mm.
FIELDS = {
    "warp x": (24, 24, 24), "warp y": (24, 24, 24), "coil": (40, 50, 50), "coarse": (14, 14, 14),
    "medium": (6, 4.5, 4.5), "fine": (3.5, 1.5, 1.5), "web": (6, 1.8, 2.4), "fibre": (9, 1.9, 5.5), "dots": (12, 2, 2),
}
FIELD_CENTRE, FIELD_EXTENT = (34, 0, 0), (80, 124, 136)  # mm: all that a shifted knee can reach
# fmt: on

MARK_TEXT = """Digital phantoms of knees. No picture here shows a real person.

Painted by prepare/knee_phantom.py of the DCGAN tutorial from tables and random numbers, without any scan:
write_knee_phantoms(folder, image_size={size}, patients={patients}, seed={seed})
Named like the AKOA slices: AKOA_Analysis/OAI..._BaseLine_..._de3d1_SAG_3D_DESS_WE_....nii.gz_....png.
This folder may be deleted; the tutorial makes it again when it needs it.
"""


class Section(NamedTuple):
    """One slice of a knee; positions are in mm in the frame of the knee."""

    traits: dict  # {name: number}, this knee's values for the names in ANATOMY and SCAN
    fields: dict  # {name: array}, random fields, mean 0 and standard deviation 1
    height: float
    x: np.ndarray
    y: np.ndarray
    pixel: float

    def row(self, table):
        """Values of a table at this height, by linear interpolation between its rows."""
        heights, *columns = np.transpose(table[::-1])  # np.interp wants rising heights
        return [float(np.interp(self.height, heights, column)) for column in columns]

    def tube(self, table, x=0, y=0, size=1, turn=0):
        """Distance to a tube that is moved, sized and turned; far away from everything where it has ended."""
        centre_x, centre_y, half_width, half_depth, tilt = self.row(table)
        if half_width < 0.5:
            return np.full_like(self.x, 50)
        half_width, half_depth = size * half_width, size * half_depth
        return ellipse(self.x - centre_x - x, self.y - centre_y - y, half_width, half_depth, tilt + turn)

    def cover(self, distance, softness=0):
        """Share 0..1 of each pixel that is inside a shape, with an edge of `softness` mm."""
        return np.clip(0.5 - distance / max(softness, self.pixel), 0, 1)

    def fade(self, start, end):
        """0 at the height `start` and before, 1 at the height `end` and beyond."""
        return float(np.clip((self.height - start) / (end - start), 0, 1))


# ---- shapes ---------------------------------------------------------------------------------------------


def ellipse(x, y, half_width, half_depth, tilt):
    """Distance to an ellipse around the origin, good near its edge."""
    cosine, sine = float(np.cos(np.deg2rad(tilt))), float(np.sin(np.deg2rad(tilt)))
    across, along = (x * cosine + y * sine) / half_width, (y * cosine - x * sine) / half_depth
    across, along = across * across, along * along
    radius = np.sqrt(across + along)  # 1 on the edge
    steepness = np.sqrt(across / half_width**2 + along / half_depth**2) + 1e-3
    return (radius - 1) * radius / steepness


def box(x, y, half_width, half_depth, corner):
    """Distance to a box around the origin, wider in front (y > 0), with corners rounded by `corner` mm."""
    x, y = np.abs(x) - half_width - 0.12 * y + corner, np.abs(y) - half_depth + corner
    return np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0) - corner


def union(a, b, fillet):
    """Distance to two shapes together, with the corner between them filled by about `fillet` mm."""
    overlap = np.maximum(fillet - np.abs(a - b), 0)
    return np.minimum(a, b) - overlap * overlap / (4 * fillet)


def intersection(a, b, fillet):
    """Distance to what two shapes have in common, with rounded corners."""
    return -union(-a, -b, fillet)


def bump(x, centre, width):
    """Smooth bump of height 1."""
    return np.exp(-(((x - centre) / width) ** 2))


def ridge(values, width):
    """Thin line where values are 0: 1 in its middle, 0 at `width` and beyond."""
    return np.maximum(1 - np.abs(values) / width, 0)


def leg_distance(section):
    """Distance to the skin: a wide ellipse behind, a narrower one around the patella."""
    traits, higher = section.traits, 0.12 * (section.height - 30)
    behind = ellipse(section.x - 2, section.y + 22, traits["leg width"] + higher, 50 + higher, traits["leg tilt"])
    front = ellipse(section.x + 3, section.y - 7, 42 + higher, 42, 0)
    return union(behind, front, 22) - (traits["fat layer"] - 4)


def femur_distance(section):
    """Distance to the femur: shaft and condyles, cut by the trochlea in front and the notch behind."""
    traits, x = section.traits, section.x
    centre_x, centre_y, half_width, half_depth, lean = section.row(SHAFT)
    corner = min(half_depth, 11.0)
    lean = float(np.tan(np.deg2rad(lean)))
    bone = box(x - centre_x, section.y - centre_y - lean * x, half_width * traits["femur width"], half_depth, corner)
    for side, table in CONDYLES.items():
        bone = union(bone, section.tube(table, y=traits[f"{side} back"], size=traits["condyle size"]), 6)
    (edge,) = section.row(FEMUR_FRONT)
    relief = 3.2 * bump(x, -16, 9) - 4.2 * bump(x, 2, 8.5) + 1.6 * bump(x, 17, 8)  # outer ridge, groove, inner ridge
    bone = intersection(bone, section.y - edge - traits["groove"] * section.fade(52, 38) * relief, 5)
    return intersection(bone, -section.tube(NOTCH, size=traits["notch"]), 5) + 0.3 * section.fields["medium"]


def patella_distance(section):
    """Distance to the patella, a lens with a ridge behind, and to all that is ahead of its back."""
    traits, x = section.traits, section.x - section.traits["patella x"]
    part = 1 - ((section.height - traits["patella height"]) / traits["patella length"]) ** 2
    size = max(part, 0.01) ** 0.4
    (edge,) = section.row(FEMUR_FRONT)
    y = section.y - edge - traits["joint gap"]
    behind = 0.35 * (np.sqrt((x - 4) ** 2 + 16) - 4) + traits["patella tilt"] * x - y
    bone = intersection(intersection(behind, y + 0.012 * x * x - 1 - 18 * size, 4), np.abs(x) - 22.5 * size, 8)
    return bone + (0 if part > 0 else 50), behind


# ---- painting -------------------------------------------------------------------------------------------


def paint(picture, cover, tone):
    """Lay a tone over the picture where `cover` (0..1) says so."""
    picture += (tone - picture) * cover


def paint_fat(section, depth):
    """A picture of fat, dark, with strands along the skin in front and in any direction elsewhere."""
    traits, coarse, medium = section.traits, section.fields["coarse"], section.fields["medium"]
    picture = traits["fat tone"] * (1 + 0.12 * coarse + 0.1 * medium + 0.16 * section.fields["fine"])
    layers = np.maximum(np.cos(depth * (2 * np.pi / 3.6) + 2.2 * coarse + medium), 0) ** 2
    picture += traits["strands"] * section.cover(14 - section.y, 16) * layers * np.clip(0.5 + medium, 0, 1.2)
    picture += traits["strands"] * 1.2 * ridge(section.fields["web"], 0.3) * np.clip(0.6 + medium, 0, 1)
    fascia = ridge(depth - traits["fat layer"] - 1.2 * coarse, 0.9) * np.clip(0.35 + 0.4 * medium, 0, 0.7)
    paint(picture, fascia, 0.7 * traits["muscle tone"])
    paint(picture, np.clip(traits["veins"] * section.fields["dots"] - 2.4, 0, 1), 0.8)
    return picture


def paint_muscles(section, picture, outside):
    """Paint muscles, each with its own tone, and fat planes between them; none where `outside` > 0."""
    traits, coarse, medium, fine = section.traits, *(section.fields[name] for name in ("coarse", "medium", "fine"))
    nearest, second = np.full_like(picture, 60), np.full_like(picture, 60)
    tone = np.empty_like(picture)
    for name, table in MUSCLES.items():
        x, y, size, turn, own_tone = (traits[f"{name} {trait}"] for trait in EACH_MUSCLE)
        distance = section.tube(table, x, y, size * traits["muscle size"], turn) + 0.6 * medium + 0.5 * fine
        np.copyto(tone, traits["muscle tone"] * own_tone, where=distance < nearest)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    tone *= 1 + 0.05 * coarse + 0.05 * medium + 0.06 * fine
    tone *= 1 - traits["fibres"] * ridge(section.fields["fibre"], 0.25) * np.clip(coarse + 0.4, 0, 1)
    tone *= 1 - 0.7 * np.clip(0.6 * section.fields["fibre"] + 0.4 * medium - 1.2 + traits["marbling"], 0, 1)
    plane = 0.5 + 0.4 * coarse - (second - nearest) / 2
    paint(picture, section.cover(np.maximum(intersection(nearest, outside, 2), plane)), tone)


def paint_notch(section, picture):
    """Paint the notch: fat with strands and a little fluid around the cruciate ligaments."""
    medium, fine = section.fields["medium"], section.fields["fine"]
    filling = section.traits["fat tone"] * np.clip(1 + 0.5 * medium + 0.4 * fine, 0.3, 2)
    filling += 0.4 * np.clip(medium + fine - 2.8, 0, 1)
    notch = section.tube(NOTCH, size=1.1 * section.traits["notch"])
    paint(picture, section.cover(notch, 3) * section.cover(-section.y - 26, 3), filling)
    for table, tone in (ANTERIOR_LIGAMENT, 0.17), (POSTERIOR_LIGAMENT, 0.07):
        paint(picture, section.cover(section.tube(table) + 0.6 * medium, 2), tone * (1 + 0.3 * fine))


def paint_fluid(section, picture, femur, patella):
    """Paint joint fluid at both sides of the femur and between femur and patella."""
    traits, coarse, medium = section.traits, section.fields["coarse"], section.fields["medium"]
    for name, outward in ("outer fluid", -section.x), ("inner fluid", section.x):
        amount = 2.2 * float(np.exp(traits[name] - ((section.height - 28) / 16) ** 2))
        thick = amount * np.clip((outward - 12) / 10, 0, 1) * bump(section.y - 3 * coarse, traits[f"{name} y"], 12)
        thick = np.minimum(thick * (1 + 0.5 * medium), 4.5)
        paint(picture, section.cover(femur + 0.2 - thick) * section.cover(0.8 - femur), 1.1)
    gap = np.maximum(np.maximum(femur, patella) - traits["pouch"] - medium, 8 - section.y)
    paint(picture, 0.8 * section.cover(gap), 0.7)


def paint_cartilage(section, picture, femur, patella):
    """Paint cartilage: on the femur where it faces the patella or the back, all around lower down, on the patella."""
    traits, coarse, medium = section.traits, section.fields["coarse"], section.fields["medium"]
    aside = np.abs(section.x)
    facing = np.gradient(femur, section.pixel, axis=0)  # 1 where the surface faces the front, -1 where the back
    ahead = (
        np.clip(facing, 0, 1) * section.cover(aside - 26, 6) * section.cover(8 - section.y, 8) * section.fade(50, 42)
    )
    behind = (
        np.clip(-1.2 * facing, 0, 1)
        * section.cover(9 - aside, 4)
        * section.cover(section.y + 4, 8)
        * section.fade(44, 36)
    )
    around = 0.8 * section.fade(16, 8) * section.cover(aside - 28, 4)
    worn = np.clip(1 + 0.2 * coarse - traits["wear"] * np.clip(medium - 0.4, 0, 1), 0.2, 1.4) * traits["cartilage"]
    thick = np.maximum(np.maximum(ahead, behind), around) * worn
    tone = traits["cartilage tone"] * (1 + 0.08 * medium + 0.05 * section.fields["fine"])
    paint(picture, section.cover(femur - thick) * np.clip(thick, 0, 1), tone)
    thick = 1.6 * worn * (1 - ((section.x - traits["patella x"]) / 21) ** 2)
    paint(picture, section.cover(np.maximum(patella[0] - thick, -1.5 - patella[1])), tone)


def paint_slice(section):
    """All of one slice, before the scanner adds to it."""
    traits, coarse, medium, fine = section.traits, *(section.fields[name] for name in ("coarse", "medium", "fine"))
    depth, femur, patella = -leg_distance(section), femur_distance(section), patella_distance(section)
    bones = np.minimum(femur, patella[0])
    artery, vein, nerve = (section.tube(table) for table in (ARTERY, VEIN, NERVE))

    picture = paint_fat(section, depth)
    beside_vessels = 2 - union(union(artery, vein, 5), nerve, 5)
    below_fat = traits["fat layer"] + 1.5 + 1.2 * coarse - depth
    paint_muscles(section, picture, np.maximum(np.maximum(beside_vessels, below_fat), 3 - femur))
    for vessel, blood, wall in (artery, 0.2, 0.38), (vein, 0.28, 0.36), (nerve, 0.2, 0.16):
        paint(picture, 0.85 * section.cover(vessel), blood * (1 + 0.2 * fine))
        paint(picture, 0.7 * ridge(vessel, max(0.8, section.pixel)), wall)

    paint_notch(section, picture)
    tendon = intersection(np.abs(section.y - 38) - 2.6, np.abs(section.x - traits["patella x"]) - 13, 3) + 0.8 * medium
    paint(picture, 0.7 * section.cover(tendon, 1.5) * section.fade(30, 22), 0.05)
    paint(picture, 0.5 * section.cover(np.abs(bones - 3.4) - 1, 1.2), 0.5 * traits["fat tone"])  # capsule
    synovium = np.clip(0.1 + 0.3 * medium + 0.4 * section.fade(50, 20), 0, 1)
    paint(picture, synovium * section.cover(np.abs(femur - 1.2) - 0.7, 1), 0.5 * traits["cartilage tone"])
    paint_fluid(section, picture, femur, patella[0])
    paint_cartilage(section, picture, femur, patella)

    marrow = traits["marrow"] * (1 + 0.3 * fine + 0.15 * medium)
    paint(picture, section.cover(bones), np.where(bones > -1.2, 0.01, marrow))
    paint(picture, section.cover(np.abs(depth - 1) - 0.8), traits["skin tone"])
    near_coil = traits["coil"] * np.clip(1 - depth / 30, 0, 1) + traits["thigh gain"] * section.fade(30, 60)
    return np.maximum(picture, 0) * section.cover(-depth) * (1 + 0.1 * section.fields["coil"] + near_coil)


# ---- a scan ---------------------------------------------------------------------------------------------


def smooth_field(rng, steps, grid):
    """Yield the slices (row, column) of a smooth random field: a spline through random numbers."""
    along, rows, columns = (  # scaled so that the standard deviation is near 1
        spline_weights((positions - centre) / step, int(extent / step) + 4, scale=0.69)
        for positions, centre, extent, step in zip(grid, FIELD_CENTRE, FIELD_EXTENT, steps, strict=True)
    )
    nodes = rng.standard_normal((along.shape[1], columns.shape[1] * rows.shape[1]), dtype=np.float32)
    for plane in along @ nodes:
        plane = columns @ plane.reshape(columns.shape[1], rows.shape[1])
        yield rows @ np.ascontiguousarray(plane.T)


def knee_sections(traits, rng, shape):
    """Yield each `Section` of a right knee from the thigh down; the random fields move with the knee."""
    middle_x, middle_y, higher = (traits[name] + traits[f"moved {name}"] for name in ("x", "y", "height"))
    heights = TOP_SLICE + higher - SLICE_STEP * np.arange(SLICES_PER_KNEE)
    pixel = FIELD_OF_VIEW[0] / shape[0]
    y, x = ((np.arange(n) - (n - 1) / 2) * pixel - m for n, m in zip(shape, (middle_y, middle_x), strict=True))
    fields = [smooth_field(rng, steps, (heights, y, x)) for steps in FIELDS.values()]
    angle, size = np.deg2rad(traits["turn"] + traits["turned"]), traits["size"]
    turned_x = ((x * np.cos(angle) + y[:, None] * np.sin(angle)) / size).astype(np.float32)
    turned_y = ((y[:, None] * np.cos(angle) - x * np.sin(angle)) / size).astype(np.float32)
    for height, *values in zip(heights.tolist(), *fields, strict=True):
        here = dict(zip(FIELDS, values, strict=True))
        warped = turned_x + 1.9 * here["warp x"], turned_y + 1.9 * here["warp y"]
        yield Section(traits, here, height, *warped, pixel / size)


def scan(traits, volume, rng):
    """What the scanner makes of a volume: fold-over, Rician noise, blur, empty margins at the left and right edge."""
    margin = round(volume.shape[2] * EMPTY_MARGIN)
    volume[..., margin : 2 * margin] += volume[..., -margin:]
    volume[..., -2 * margin : -margin] += volume[..., :margin]
    sigma = np.float32(traits["noise"] * np.sqrt(volume.shape[1] / 114))  # smaller pixels have more noise
    real, imaginary = sigma * rng.standard_normal((2, *volume.shape), dtype=np.float32)
    volume = np.hypot(volume + real, imaginary)
    blur = max(traits["blur"] * volume.shape[1] / FIELD_OF_VIEW[0], 0.45)  # px; at least about the width of a pixel
    volume = ndimage.gaussian_filter(volume, (0.35, 0.8 * blur, 1.2 * blur), truncate=3)
    volume = volume * traits["gain"] + traits["black"]
    volume[..., :margin] = volume[..., -margin:] = 0
    return volume


def sample_traits(spreads, chance):
    """{name: value} from a table of means and standard deviations, none further out than two of these.

    `chance` is a standard normal number for each.
    """
    mean, deviation = np.transpose(list(spreads.values()))
    return dict(zip(spreads, (mean + deviation * np.clip(chance, -2, 2)).tolist(), strict=True))


def check_arguments(image_size, patient=0, side="RIGHT"):
    """Refuse what cannot be painted."""
    if not 32 <= image_size <= 260:
        raise ValueError(f"image_size is {image_size}; use 32 to 260 px, the range from a blot to an AKOA picture")
    if patient < 0:
        raise ValueError(f"patient is {patient}; use 0 or more")
    if side not in SPELLINGS:
        raise ValueError(f'side is "{side}"; use one of {", ".join(SPELLINGS)}')


def paint_knee(patient, image_size=256, side="RIGHT", visit=0, seed=1):
    """The axial slices of one knee, patella at the bottom: the same anatomy at every size.

    Noise after Gudbjartsson & Patz 1995 (doi 10.1002/mrm.1910340618).

    Args:
        patient: 0 or more; every number is another patient.
        image_size: px that the picture is wanted for, 32 to 260. Pictures have AKOA's proportions: 57x65 px for sizes
            up to 64, 114x130 up to 128, 228x260 above.
        side: RIGHT or LEFT. The two knees of a patient are alike, the left one mirrored.
        visit: 0 or more; another scan of a knee differs in position, contrast and noise.
        seed: another seed gives another set of patients.

    Returns:
        uint8 (40, height, width), 0..255; slices 1.2 mm apart, from the thigh to the joint line.
    """
    check_arguments(image_size, patient, side)
    number = list(SPELLINGS).index(side)
    keys = (0, 0, 0), (1, number, 0), (2, number, visit)  # each its own random numbers
    patient_rng, knee_rng, scan_rng = (np.random.default_rng([seed, patient, *key]) for key in keys)
    shared, own = (rng.standard_normal(len(ANATOMY)) for rng in (patient_rng, knee_rng))
    traits = sample_traits(ANATOMY, ALIKE * shared + np.sqrt(1 - ALIKE**2) * own)
    traits |= sample_traits(SCAN, scan_rng.standard_normal(len(SCAN)))

    height, width = SMALLEST_SHAPE
    scale = 4 if image_size > 128 else 2
    sections = knee_sections(traits, knee_rng, (scale * height, scale * width))
    volume = np.stack([paint_slice(section) for section in sections])
    volume = np.clip(scan(traits, volume if side == "RIGHT" else volume[..., ::-1].copy(), scan_rng), 0, 1)
    if image_size <= 64:  # the smallest pictures are averaged from larger ones
        volume = volume.reshape(SLICES_PER_KNEE, height, 2, width, 2).mean(axis=(2, 4))
    return (volume * 255).astype(np.uint8)


# ---- files ----------------------------------------------------------------------------------------------


def write_knee_phantoms(folder, image_size, patients=40, seed=1, progress=None):
    """Write digital phantoms as PNG files of three equal channels, named as AKOA's slices are.

    About half of the patients have a second scan, of the other knee or of the same. As in AKOA, the side is spelt in
    several ways, and some names lack the underscore before de3d1. All or nothing; SIMULATED.txt beside the slices says
    what they are.

    Args:
        folder: `pathlib.Path`, to be made; it must not exist. Missing parents are made.
        image_size: px that the pictures are wanted for, 32 to 260; see `paint_knee`.
        patients: at least 3, numbered from 1.
        seed: another seed gives another set of patients.
        progress: called as progress(done, total) after each patient.

    Raises:
        FileExistsError: `folder` exists.
        ValueError: too few patients, or image_size is out of range.
    """
    if patients < 3:
        raise ValueError(f"patients is {patients}; use at least 3: one each to train, validate and test")
    check_arguments(image_size)
    text = MARK_TEXT.format(size=image_size, patients=patients, seed=seed)
    with new_set(folder, DATASETS["knee"].folder, text) as root:
        run_all([partial(write_patient, root, n, image_size, seed) for n in range(1, patients + 1)], progress)


def write_patient(folder, patient, image_size, seed):
    """Write the scans of a patient as PNG."""
    for name, side, visit in scans_of(patient, seed):
        for number, picture in enumerate(paint_knee(patient, image_size, side, visit, seed)):
            path = folder / f"{name}.nii.gz_{number}.png"
            Image.fromarray(picture).convert("RGB").save(path, compress_level=1)  # four times as fast, no larger


def scans_of(patient, seed):
    """[(name, side, visit)] of the one or two scans of a patient, spelt in the ways AKOA spells them."""
    rng = np.random.default_rng([seed, patient, 3, 0, 0])
    first, other = rng.permutation(list(SPELLINGS)).tolist()
    one = [(first, 0)]
    scans = [one, one, [*one, (first, 1)], [*one, (other, 0)]][rng.integers(4)]
    series, spelling = int(rng.integers(1, 12)), int(rng.choice(4, p=[0.7, 0.1, 0.1, 0.1]))
    underscore = "" if rng.random() < 0.15 else "_"
    return [
        (f"OAI{patient:07d}_BaseLine_{number}{underscore}de3d1_SAG_3D_DESS_WE_{SPELLINGS[side][spelling]}", side, visit)
        for number, (side, visit) in enumerate(scans, start=series)
    ]
