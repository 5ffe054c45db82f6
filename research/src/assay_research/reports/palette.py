"""Colour palette of Okabe and Ito, which is safe for all kinds of colour vision."""

BLUE, VERMILION, GREEN, ORANGE, SKY, PINK = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"
"""All colours of the palette except yellow, which is too pale for a line."""

GREY, BLACK = "#666666", "#000000"
