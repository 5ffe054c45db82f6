"""Descriptions of 68 freshwater diatom species after identification books: outline, ornament and size."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outline:
    """Shape of a valve seen from above, independent of its size.

    The apical axis runs from -1 to 1. Half the breadth along it is a superellipse times a narrowing profile.

    Attributes:
        fullness: exponent of the superellipse: 2 rounds the ends like an ellipse, 8 like a worn rectangle.
        apex: breadth of the profile at the ends, as a fraction of the greatest breadth.
        shoulder: exponent of the narrowing: 1.5 begins in the middle (lanceolate), 8 close to the ends (rostrate).
        club: relative difference in breadth between head and foot, for heteropolar genera.
        dorsal: asymmetry of the breadth on the two sides of the apical axis, -1 to 1, for dorsiventral genera.
        bend: deviation of the apical axis to one side, in half-breadths.
        sigmoid: deviation of the apical axis to both sides (S-shape), in half-breadths.
        waist: relative narrowing of the middle; a negative value widens it.
    """

    fullness: float = 2.0
    apex: float = 1.0
    shoulder: float = 2.0
    club: float = 0.0
    dorsal: float = 0.0
    bend: float = 0.0
    sigmoid: float = 0.0
    waist: float = 0.0


OUTLINES = {
    "naviculoid": Outline(apex=0.42, shoulder=2.0),
    "linear": Outline(fullness=5.0, apex=0.75, shoulder=5.0),
    "elliptic": Outline(fullness=2.2),
    "rostrate": Outline(fullness=2.8, apex=0.5, shoulder=3.4),
    "clavate": Outline(fullness=2.3, apex=0.55, shoulder=2.2, club=0.42),
    "wedge": Outline(fullness=4.5, apex=0.8, shoulder=3.0, club=0.42),
    "lunate": Outline(fullness=2.3, apex=0.45, shoulder=2.4, dorsal=0.42, bend=0.22),
    "arcuate": Outline(fullness=3.0, apex=0.5, shoulder=3.0, bend=0.9),
    "needle": Outline(fullness=3.0, apex=0.38, shoulder=2.6),
    "sigmoid": Outline(fullness=2.4, apex=0.4, shoulder=2.6, sigmoid=0.65),
    "ovate": Outline(fullness=2.3, apex=0.75, shoulder=2.0, club=0.14),
    "panduriform": Outline(fullness=2.5, apex=0.5, shoulder=4.0, waist=0.3),
    "cruciform": Outline(fullness=2.6, apex=0.42, shoulder=1.6, waist=-0.5),
    "disc": Outline(),
}


@dataclass(frozen=True)
class Genus:
    """Properties shared by the species of a genus; densities are counts per 10 micrometres.

    Attributes:
        family: key of the outline in `OUTLINES`.
        raphe: ``median``, ``ventral`` (off the middle), ``keel`` (along one edge, on a row of fibulae) or ``none``.
        axial: half-breadth of the clear area along the raphe, as a fraction of the valve's half-breadth.
        central: half-length and half-breadth of the clear area in the middle, as fractions of the valve's.
        one_sided: True if the central area opens to one side only.
        radiate: inclination of the striae from the perpendicular, 0 to 1.
        puncta: density of the dots along the striae; 0 for striae that appear as lines.
        costae: density of the thick ribs, or of a keel's fibulae; 0 for none.
        heterovalvar: True if every second valve shows its face without a raphe.
        stigma: True if there is a single dot next to the central area.
        sinus: True if the valve without raphe has a horseshoe-shaped clear spot at one side.
    """

    family: str
    raphe: str = "median"
    axial: float = 0.1
    central: tuple[float, float] = (0.0, 0.0)
    one_sided: bool = False
    radiate: float = 0.0
    puncta: float = 0.0
    costae: float = 0.0
    heterovalvar: bool = False
    stigma: bool = False
    sinus: bool = False


GENERA = {
    "Achnanthidium": Genus("linear", axial=0.12, central=(0.1, 0.4), heterovalvar=True),
    "Amphora": Genus("lunate", "ventral", 0.08, (0.1, 0.4), one_sided=True, radiate=0.2),
    "Caloneis": Genus("linear", axial=0.15, central=(0.08, 1.0)),
    "Cocconeis": Genus("elliptic", axial=0.05, radiate=0.5, puncta=18.0, heterovalvar=True),
    "Craticula": Genus("naviculoid", axial=0.08, central=(0.03, 0.15)),
    "Cyclotella": Genus("disc", "none", 0.52),
    "Cymatopleura": Genus("panduriform", "none", 0.1, costae=7.0),
    "Cymbella": Genus("lunate", "ventral", 0.12, (0.07, 0.25), radiate=0.35, puncta=20.0, stigma=True),
    "Diatoma": Genus("linear", "none", 0.06, costae=6.0),
    "Encyonema": Genus("lunate", "ventral", 0.1, (0.05, 0.15), radiate=0.25, puncta=28.0),
    "Epithemia": Genus("arcuate", "none", 0.0, costae=3.5, puncta=14.0),
    "Eunotia": Genus("arcuate", "none", 0.04),
    "Fragilaria": Genus("needle", "none", 0.16, (0.12, 1.0), one_sided=True),
    "Frustulia": Genus("naviculoid", axial=0.12, central=(0.03, 0.2)),
    "Gomphonema": Genus("clavate", axial=0.12, central=(0.07, 0.4), radiate=0.3, puncta=26.0, stigma=True),
    "Gyrosigma": Genus("sigmoid", axial=0.06, central=(0.03, 0.2), puncta=16.0),
    "Hannaea": Genus("arcuate", "none", 0.12, (0.1, 1.0), one_sided=True),
    "Luticola": Genus("elliptic", axial=0.12, central=(0.13, 0.75), radiate=0.3, puncta=16.0, stigma=True),
    "Meridion": Genus("wedge", "none", 0.08, costae=4.0),
    "Navicula": Genus("naviculoid", axial=0.08, central=(0.07, 0.4), radiate=0.55),
    "Nitzschia": Genus("needle", "keel", 0.0, costae=9.0),
    "Pinnularia": Genus("linear", axial=0.25, central=(0.12, 0.6), radiate=0.4),
    "Planothidium": Genus("rostrate", axial=0.1, central=(0.08, 0.4), radiate=0.35, heterovalvar=True, sinus=True),
    "Reimeria": Genus("lunate", "ventral", 0.15, (0.14, 1.0), one_sided=True, radiate=0.1),
    "Rhoicosphenia": Genus("wedge", axial=0.1, central=(0.08, 0.35), radiate=0.2, heterovalvar=True),
    "Sellaphora": Genus("linear", axial=0.15, central=(0.12, 0.7), radiate=0.4),
    "Staurosira": Genus("cruciform", "none", 0.35),
    "Stephanodiscus": Genus("disc", "none", 0.12, puncta=20.0),
    "Surella": Genus("ovate", "none", 0.12, costae=6.0),
    "Surirella": Genus("ovate", "none", 0.12, costae=5.0),
    "Tabellaria": Genus("cruciform", "none", 0.12),
    "Ulnaria": Genus("needle", "none", 0.2, (0.04, 1.0)),
}


@dataclass(frozen=True)
class Species:
    """One species and the dimensions of its valves.

    Attributes:
        name: the binomial name; its first word is the genus.
        length: smallest and largest length in micrometres.
        breadth: smallest and largest breadth in micrometres.
        striae: striae per 10 micrometres; a light microscope does not resolve more than 30.
        heads: relative widening of the ends into heads, 0 to 0.5.
    """

    name: str
    length: tuple[float, float]
    breadth: tuple[float, float]
    striae: float
    heads: float = 0.0

    @property
    def genus(self) -> Genus:
        """Properties shared by the species of its genus."""
        return GENERA[self.name.split()[0]]

    @property
    def outline(self) -> Outline:
        """Outline of its genus."""
        return OUTLINES[self.genus.family]


SPECIES = (
    Species("Gomphonema olivaceum", (18, 34), (6.5, 9.0), 12),
    Species("Navicula cryptotenella", (22, 38), (5.5, 7.0), 15),
    Species("Fragilaria recapitellata", (20, 38), (4.0, 5.0), 15, 0.30),
    Species("Encyonema silesiacum", (20, 38), (6.5, 9.5), 12),
    Species("Navicula reichardtiana", (14, 22), (5.0, 6.0), 15, 0.12),
    Species("Planothidium lanceolatum", (13, 28), (6.5, 9.0), 12),
    Species("Gomphonema tergestinum", (11, 20), (4.5, 6.0), 12),
    Species("Navicula cryptotenelloides", (9, 15), (3.6, 4.3), 17),
    Species("Rhoicosphenia abbreviata", (18, 42), (4.5, 7.0), 16),
    Species("Meridion circulare", (16, 48), (4.5, 7.0), 15),
    Species("Achnanthidium minutissimum", (8, 20), (2.5, 3.6), 30),
    Species("Encyonema ventricosum", (10, 20), (4.8, 6.8), 15, 0.08),
    Species("Cocconeis placentula", (16, 36), (10.0, 22.0), 22),
    Species("Diatoma vulgaris", (25, 55), (9.0, 13.0), 40, 0.05),
    Species("Navicula lanceolata", (32, 60), (8.5, 11.5), 12),
    Species("Amphora pediculus", (8, 15), (3.0, 4.5), 20),
    Species("Diatoma mesodon", (14, 30), (7.0, 11.0), 26),
    Species("Gomphonema parvulum", (14, 30), (5.0, 7.5), 15, 0.18),
    Species("Navicula tripunctata", (36, 62), (7.0, 9.5), 10),
    Species("Nitzschia dissipata", (25, 60), (4.5, 6.5), 42, 0.08),
    Species("Ulnaria ulna", (70, 160), (5.5, 8.5), 9, 0.10),
    Species("Cocconeis pediculus", (18, 42), (14.0, 30.0), 18),
    Species("Achnanthidium pyrenaicum", (10, 24), (3.2, 4.8), 22),
    Species("Nitzschia palea", (22, 55), (3.0, 4.8), 36),
    Species("Gomphonema pumilum", (14, 34), (3.8, 5.4), 11),
    Species("Fragilaria vaucheriae", (14, 36), (4.2, 5.6), 12, 0.10),
    Species("Cymbella excisa", (20, 40), (6.5, 10.0), 10, 0.10),
    Species("Navicula gregaria", (16, 38), (5.5, 8.0), 18, 0.20),
    Species("Reimeria sinuata", (11, 26), (4.0, 6.0), 11),
    Species("Cyclotella meneghiniana", (9, 24), (9.0, 24.0), 8),
    Species("Surirella brebissonii", (16, 48), (13.0, 22.0), 18),
    Species("Planothidium frequentissimum", (7, 16), (4.0, 6.0), 14),
    Species("Encyonema minutum", (8, 17), (3.8, 5.2), 17),
    Species("Gomphonema truncatum", (22, 46), (8.0, 13.0), 11, 0.40),
    Species("Nitzschia fonticola", (11, 30), (2.8, 4.2), 28, 0.12),
    Species("Navicula capitatoradiata", (26, 44), (7.0, 9.5), 13, 0.22),
    Species("Cocconeis euglypta", (12, 28), (8.0, 16.0), 20),
    Species("Staurosira construens", (7, 24), (6.0, 10.0), 15),
    Species("Fragilaria crotonensis", (55, 120), (2.6, 4.0), 16, 0.15),
    Species("Achnanthidium lineare", (8, 18), (2.2, 3.0), 28, 0.10),
    Species("Gomphonema micropus", (18, 40), (6.0, 8.5), 11, 0.06),
    Species("Navicula trivialis", (28, 58), (8.5, 12.0), 12, 0.10),
    Species("Amphora copulata", (20, 42), (6.5, 9.0), 15),
    Species("Nitzschia linearis", (60, 120), (4.0, 6.0), 30, 0.12),
    Species("Diatoma tenuis", (26, 80), (2.6, 4.6), 34, 0.25),
    Species("Caloneis bacillum", (16, 40), (4.5, 7.5), 22),
    Species("Cymbella cistula", (45, 90), (14.0, 19.0), 8),
    Species("Navicula veneta", (14, 28), (5.0, 6.2), 14, 0.15),
    Species("Sellaphora pupula", (20, 40), (7.0, 9.0), 19, 0.20),
    Species("Gomphonema acuminatum", (30, 65), (8.0, 12.0), 10, 0.45),
    Species("Eunotia minor", (20, 48), (4.5, 7.0), 14, 0.08),
    Species("Nitzschia amphibia", (10, 38), (4.0, 6.0), 16),
    Species("Hannaea arcus", (30, 90), (4.5, 7.0), 15, 0.20),
    Species("Ulnaria acus", (90, 180), (3.5, 5.0), 13),
    Species("Stephanodiscus hantzschii", (7, 20), (7.0, 20.0), 10),
    Species("Luticola goeppertiana", (14, 38), (6.5, 9.5), 19),
    Species("Cyclotella ocellata", (6, 16), (6.0, 16.0), 14),
    Species("Pinnularia borealis", (26, 56), (8.0, 11.5), 5),
    Species("Frustulia vulgaris", (42, 68), (9.0, 12.0), 26, 0.15),
    Species("Tabellaria flocculosa", (14, 48), (5.5, 9.0), 17, 0.45),
    Species("Gyrosigma attenuatum", (90, 180), (16.0, 24.0), 14),
    Species("Craticula accomoda", (18, 28), (5.5, 7.5), 21, 0.18),
    Species("Cymbella tumida", (40, 75), (15.0, 20.0), 9, 0.18),
    Species("Cymatopleura solea", (60, 140), (18.0, 28.0), 30),
    Species("Epithemia adnata", (30, 80), (8.0, 13.0), 13, 0.10),
    Species("Surirella angusta", (18, 50), (7.0, 11.0), 24, 0.10),
    Species("Gyrosigma acuminatum", (70, 130), (11.0, 16.0), 18),
    Species("Surella minuta", (14, 36), (9.0, 11.0), 22),
)
"""All species, the most frequent first. The thirteen ranks published for the Kaggle "Diatom data set" (68 species) are
used, including its spelling of Surella; the other ranks are filled with species of the same waters."""
