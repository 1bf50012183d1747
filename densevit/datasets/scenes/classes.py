"""The names of the world: object classes, what surrounds them, and the numbers that each kind of label uses for them.

Three numberings, each the usual one of its form:

* label, 0..11: an object class in memory (`Scene.labels`), the order of OBJECT_CLASSES.
* category id: the same class in a COCO file. Like COCO's own, the ids have holes (CATEGORY_IDS[label]).
* semantic id: ADE20K's form, 0 = not labelled (never used here), 1..12 = objects (label + 1), 13..18 = surroundings.
"""

# Four pairs of look-alikes: ball and ring, bottle and vase, car and truck, lamp and mushroom.
OBJECT_CLASSES = ("ball", "ring", "bottle", "vase", "mug", "car", "truck", "chair", "lamp", "mushroom", "fir", "star")
CATEGORY_IDS = (1, 2, 3, 5, 6, 8, 9, 11, 13, 14, 16, 18)

STUFF_CLASSES = ("floor", "rug", "wall", "ceiling", "sky", "clutter")
SEMANTIC_CLASSES = OBJECT_CLASSES + STUFF_CLASSES  # semantic id = index in this list + 1
FLOOR, RUG, WALL, CEILING, SKY, CLUTTER = range(len(OBJECT_CLASSES) + 1, len(SEMANTIC_CLASSES) + 1)

# Goes up whenever the same (seed, index) no longer gives the same picture: a written folder records it.
SCENES_VERSION = 1
