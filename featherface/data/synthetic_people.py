"""How the people of the procedural data set look: chosen here, drawn elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featherface.data.synthetic_canvas import Color, Dice, mix, scaled

Hair = Literal["bald", "buzz", "short", "parted", "receding", "curly", "bob", "long", "wavy", "bun"]
Headwear = Literal["none", "cap", "beanie", "helmet", "turban", "scarf", "brimmed", "hood"]
Beard = Literal["none", "stubble", "moustache", "goatee", "full"]
Eyewear = Literal["none", "thin", "thick", "sun"]
Mouth = Literal["neutral", "smile", "laugh", "open", "sad"]

# Ten tones from very light to very dark at even steps of lightness; every tone in between is equally likely.
SKIN_TONES: tuple[Color, ...] = (
    (248, 224, 208),
    (241, 207, 184),
    (231, 188, 160),
    (218, 168, 134),
    (200, 146, 110),
    (177, 122, 86),
    (150, 98, 66),
    (121, 76, 52),
    (91, 57, 41),
    (62, 40, 31),
)
_DARK_HAIR: tuple[Color, ...] = ((24, 20, 20), (44, 30, 24), (70, 44, 30))
_LIGHT_HAIR: tuple[Color, ...] = ((110, 66, 38), (140, 60, 32), (196, 152, 92), (222, 192, 140))
_GREY_HAIR: tuple[Color, ...] = ((128, 126, 124), (196, 194, 190), (232, 230, 226))
_DYED_HAIR: tuple[Color, ...] = ((176, 52, 92), (60, 96, 170), (84, 140, 96))
_IRISES: tuple[Color, ...] = ((58, 36, 24), (88, 56, 30), (70, 98, 60), (70, 104, 140), (96, 110, 118))


@dataclass(frozen=True)
class Look:
    """One person."""

    skin: Color
    lips: Color
    hair_color: Color
    iris: Color
    hair: Hair
    headwear: Headwear
    headwear_color: Color
    beard: Beard
    eyewear: Eyewear
    eyewear_color: Color
    mouth: Mouth
    has_mask: bool
    mask_color: Color
    has_earrings: bool
    clothes: Color
    pattern: Literal["plain", "stripes", "buttons", "tie", "zip", "print"]
    pattern_color: Color
    arms: Literal["down", "raised", "folded"]
    has_skirt: bool
    shoulder_width: float
    """Half the width of the shoulders over half the height of the face."""
    face_width: float
    """Half the width of the face over half its height."""
    jaw_width: float
    """Share of the face's width that the jaw keeps."""
    eye_size: float
    eye_open: float
    """0 closed, 1 open."""
    brow_weight: float
    nose_width: float
    mouth_width: float
    age: float
    """0 young, 1 old: lines and hollows."""
    fringe: float
    """How far hair covers the forehead, 0 to 0.6 of half the face's height."""
    gaze: float
    """Where the eyes look, -1 left to 1 right."""
    seed: int
    """For the strands of the hair."""

    @property
    def is_expressive(self) -> bool:
        """Whether WIDER FACE would call the expression exaggerated."""
        return not self.has_mask and self.mouth in ("laugh", "open")


def make_look(dice: Dice) -> Look:
    """Return a person like no other: all tones of skin in equal shares, hair and dress in any combination."""
    skin, is_dark = _skin(dice)
    age = dice.uniform(0.0, 1.0)
    feminine = dice.chance(0.5)
    headwear: Headwear = dice.pick(
        ("none", "cap", "beanie", "helmet", "turban", "scarf", "brimmed", "hood"),
        (66, 5, 5, 3, 1, 11, 5, 4) if feminine else (68, 8, 6, 5, 5, 0, 4, 4),
    )
    beard: Beard = (
        "none"
        if feminine
        else dice.pick(("none", "stubble", "moustache", "goatee", "full"), (50, 18, 8, 8, 16))
    )
    hair_color = _hair_color(dice, is_dark, age)
    return Look(
        skin=skin,
        lips=_lips(dice, skin, feminine),
        hair_color=hair_color,
        iris=dice.pick(_IRISES[:2] if is_dark else _IRISES),
        hair=_hair(dice, feminine, is_dark),
        headwear=headwear,
        headwear_color=dice.color(20, 235),
        beard=beard,
        eyewear=dice.pick(("none", "thin", "thick", "sun"), (72, 9, 9, 10)),
        eyewear_color=dice.pick(((20, 20, 24), (70, 44, 30), (140, 30, 40), (190, 170, 110), (90, 100, 120))),
        mouth=dice.pick(("neutral", "smile", "laugh", "open", "sad"), (34, 34, 16, 8, 8)),
        has_mask=dice.chance(0.05),
        mask_color=dice.pick(((150, 196, 214), (236, 238, 238), (30, 30, 34), (212, 170, 180))),
        has_earrings=feminine and dice.chance(0.35),
        clothes=dice.color(15, 240),
        pattern=dice.pick(("plain", "stripes", "buttons", "tie", "zip", "print"), (34, 15, 16, 12, 12, 11)),
        pattern_color=dice.color(10, 250),
        arms=dice.pick(("down", "raised", "folded"), (80, 7, 13)),
        has_skirt=feminine and dice.chance(0.35),
        shoulder_width=dice.uniform(1.3, 1.55) + (0.0 if feminine else 0.3),
        face_width=dice.uniform(0.66, 0.78),
        jaw_width=dice.uniform(0.68, 0.84) + (0.0 if feminine else 0.06),
        eye_size=dice.uniform(0.85, 1.2) + (0.1 if feminine else 0.0),
        eye_open=0.08 if dice.chance(0.06) else dice.uniform(0.65, 1.0),
        brow_weight=dice.uniform(0.6, 1.0) + (0.0 if feminine else 0.45),
        nose_width=dice.uniform(0.12, 0.2),
        mouth_width=dice.uniform(0.22, 0.3),
        age=age,
        fringe=dice.uniform(0.0, 0.55),
        gaze=dice.bell(1.0),
        seed=dice.integer(0, 2**31 - 1),
    )


def _skin(dice: Dice) -> tuple[Color, bool]:
    position = dice.uniform(0.0, len(SKIN_TONES) - 1.001)
    index = int(position)
    tone = mix(SKIN_TONES[index], SKIN_TONES[index + 1], position - index)
    return dice.jitter(tone, 5), position > 4.5


def _lips(dice: Dice, skin: Color, feminine: bool) -> Color:
    natural = mix(skin, (150, 60, 60), 0.42)
    if feminine and dice.chance(0.45):
        return mix(natural, dice.pick(((180, 30, 50), (150, 40, 90), (120, 30, 40), (214, 90, 100))), 0.7)
    return natural


def _hair_color(dice: Dice, is_dark: bool, age: float) -> Color:
    if age > 0.72 and dice.chance(0.7):
        return dice.jitter(dice.pick(_GREY_HAIR), 8)
    if dice.chance(0.05):
        return dice.jitter(dice.pick(_DYED_HAIR), 12)
    if is_dark or dice.chance(0.45):
        return dice.jitter(dice.pick(_DARK_HAIR), 8)
    return scaled(dice.jitter(dice.pick(_LIGHT_HAIR), 10), dice.uniform(0.8, 1.05))


def _hair(dice: Dice, feminine: bool, is_dark: bool) -> Hair:
    curly = 26 if is_dark else 8
    if feminine:
        return dice.pick(
            ("long", "wavy", "bob", "bun", "curly", "parted", "short"), (24, 18, 16, 16, curly, 8, 8)
        )
    return dice.pick(
        ("short", "parted", "buzz", "bald", "receding", "curly", "wavy"), (28, 22, 16, 10, 12, curly, 5)
    )
