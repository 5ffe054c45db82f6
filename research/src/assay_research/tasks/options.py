"""Views requested by the options of an evaluation."""

from dataclasses import replace

from assay_deploy.images.canvas import View
from assay_research.config.build import read_views
from assay_research.config.schema import EvaluationOptions
from assay_research.errors import ConfigError


def chosen_views(options: EvaluationOptions, own: tuple[View, ...]) -> tuple[View, ...]:
    """Return the requested views, the plain view first; the run's own views if none are requested.

    Args:
        options: command-line options.
        own: the run's own views.

    Raises:
        ConfigError: a view is invalid, or ``views=`` is combined with ``sizes=`` or ``flip=``.
    """
    if options.views is not None:
        if options.sizes is not None or options.flip:
            raise ConfigError("views= is the whole list of views; give either views= or sizes= and flip=")
        return read_views(options.views)
    if options.sizes is None and not options.flip:
        return own
    sizes = [{"size": size} for size in options.sizes or []]
    unmirrored = own[:1] if options.sizes is None else read_views(sizes)
    flips = (False, True) if options.flip else (False,)
    return tuple(replace(view, flip=flip) for view in unmirrored for flip in flips)
