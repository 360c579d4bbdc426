"""Which FC layers of a model are worked on: those that the user's patterns and sizes leave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lrf_dse.errors import UsageError

if TYPE_CHECKING:
    from lrf_dse.models.model import Model
    from lrf_dse.models.site import FcSite


@dataclass(frozen=True)
class LayerChoice:
    """Shell patterns of layer names, and the least parameters of a layer. Without `include` every layer is in."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_params: int = 0

    def reason_against(self, site: FcSite) -> str | None:
        """Why a layer is left out, None if it is not."""
        layer = site.layer
        # Not fnmatch(), which ignores case where the system's file names do.
        if self.include and not any(fnmatchcase(layer.name, pattern) for pattern in self.include):
            return "left out: --include names others"
        if any(fnmatchcase(layer.name, pattern) for pattern in self.exclude):
            return "left out by --exclude"
        if layer.out_features * layer.in_features < self.min_params:
            return f"left out: it has fewer than --min-params {self.min_params} parameters"
        return None


def chosen(model: Model, choice: LayerChoice) -> Model:
    """`model` with only the layers of `choice`; the others are skipped, with the reason.

    Raises UsageError for a pattern that matches no layer, and where none is left.
    """
    for option, patterns in (("--include", choice.include), ("--exclude", choice.exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in model.sites):
                raise UsageError(
                    f"{model.path}: {option} {pattern!r} matches no layer; the layers are {', '.join(model.sites)}"
                )
    reasons = {name: choice.reason_against(site) for name, site in model.sites.items()}
    sites = {name: site for name, site in model.sites.items() if reasons[name] is None}
    if model.sites and not sites:
        raise UsageError(f"{model.path}: --include, --exclude and --min-params leave no layer of {len(model.sites)}")
    from lrf_dse.models.site import Skipped  # numpy: the command line reads this module for its options

    left_out = tuple(
        Skipped(name, reason, model.sites[name].params, model.sites[name].macs)
        for name, reason in reasons.items()
        if reason is not None
    )
    return replace(model, sites=sites, skipped=(*model.skipped, *left_out))
