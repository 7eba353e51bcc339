"""Restoring strategies: which weights go back to base first, each declared beside its function.

    @strategy("top", title="largest relative change", source="...")
    def top(p, s): ...                                a score per weight, largest first

From a score come int32 keys in 0..2^31-1, one a weight. Weights with the lowest keys are restored first; equal keys go
in canonical order (tensor order, then flat index). So k% restored is always contained in (k+1)% restored, and finding
k% is finding one key. What the function of a strategy is follows from what it takes:

    takes k_percent            (p, s) -> a score per weight; p and s are 1-D float32 pieces of one tensor, and the
                               score of a weight depends on its own p and s alone
    takes k_percent, seeded    (seed, pair, tensors of the region) -> the function from a chunk to keys
    takes alpha                (chunk, alpha) -> the weights themselves
    takes block                (names in the region, names in the block) -> names of the tensors that go back

Whole layers at once is the paper's table of layer blocks (arXiv 2509.16596); resetting parts of a fine-tuned model by
blocks is HFT (arXiv 2404.18466).

Notation: p base, s tuned, d = s - p; n weights in the region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sftknow_core.errors import PluginError, SpecError
from sftknow_core.registry import Entry, Registry, plugin_of
from sftknow_core.update.scores import EPS, MAX_BITS, Score, bits, check_weights, checked, ratio

if TYPE_CHECKING:  # strategies are listed without loading torch
    import torch

    from sftknow_core.model.io.tensors import TensorMeta
    from sftknow_core.update.pair import Chunk, Pair

    Keys = Callable[[Chunk], torch.Tensor]

MAX_REFERENCE_WEIGHTS = 100_000_000
"""Largest region for random-reference, which holds a permutation of the region in memory (12 bytes a
weight)."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Strategy(Entry):
    """How the weights to restore are chosen."""

    function: Callable[..., Any]
    takes: Literal["k_percent", "alpha", "block"] = "k_percent"
    """Which of RestoreSpec's amounts says how much."""
    seeded: bool = False
    lowest_first: bool = False
    """Whether the smallest scores go back first."""
    measured: Score | None = None
    """The score, where it is one that the delta cube holds and the compiled kernels compute."""

    @property
    def direction(self) -> str:
        """Which end of its score goes back first, as `results.cube_selection` names it."""
        return "lowest" if self.lowest_first else "highest"


STRATEGIES: Registry[Strategy] = Registry("strategy", takes_plugins=True)


def strategy(
    name: str,
    *,
    title: str = "",
    source: str = "",
    version: int = 1,
    takes: Literal["k_percent", "alpha", "block"] = "k_percent",
    seeded: bool = False,
    lowest_first: bool = False,
    measured: Score | None = None,
) -> Callable[[F], F]:
    """Register the decorated function as a restoring strategy.

    Args:
        name: what a user types, e.g. "my-order".
        title: a few words for a list of choices; the name when left out.
        source: paper and section, or reference code.
        version: raised whenever the same models would give other weights.
        takes: which amount says how much is restored; with it goes what the function is, see the module.
        seeded: whether it takes a seed.
        lowest_first: whether the smallest scores go back first.
        measured: the score of the delta cube that it ranks by; for built-in strategies.

    Raises PluginError for a name that is taken.
    """

    def register(function: F) -> F:
        plugin = plugin_of(function)
        if plugin is not None and measured is not None:
            raise PluginError(
                f"strategy {name}: `measured` is for built-in strategies, whose scores are compiled"
            )
        STRATEGIES.add(
            Strategy(
                name=name, title=title or name, source=source, version=version, plugin=plugin,
                function=function, takes=takes, seeded=seeded, lowest_first=lowest_first, measured=measured,
            )
        )  # fmt: skip
        return function

    return register


@strategy(
    "bottom",
    title="smallest relative change",
    source='a control; as top, "bottom"',
    measured=Score.RELATIVE,
    lowest_first=True,
)
@strategy(
    "top",
    title="largest relative change",
    source='arXiv 2509.16596; UmeanNever/ParamRestore param_restore.py, `_select_indices`, "top"',
    measured=Score.RELATIVE,
)
def relative_change(p: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """|d| / (|p| + 1e-8): the paper's measure of change."""
    return ratio(s - p, p, EPS)


@strategy(
    "smallest",
    title="smallest absolute change",
    source='TIES "trim" with density 1 - k (arXiv 2306.01708)',
    measured=Score.ABSOLUTE,
    lowest_first=True,
)
@strategy(
    "largest",
    title="largest absolute change",
    source='a control that takes back most of ||d||^2 for its k: what TIES "trim" keeps (arXiv 2306.01708)',
    measured=Score.ABSOLUTE,
)
def absolute_change(p: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """|d|."""
    return (s - p).abs()


@strategy("random", title="random draw", source="a control: a uniform draw", seeded=True)
def random(seed: int, pair: Pair, metas: Sequence[TensorMeta] = ()) -> Keys:
    """A uniform draw without replacement: the k% with the lowest hash of (seed, index in the whole model).

    The hash is the top 31 bits of the splitmix64 output function (Steele, Lea and Flood 2014) at counter
    `index` of a stream chosen by the seed. It depends on neither region nor k, so draws are nested in both.
    A control.
    """
    import torch

    stream = _splitmix64(seed)

    def keys(chunk: Chunk) -> torch.Tensor:
        first = pair.offsets[chunk.meta.name] + chunk.start
        counter = torch.arange(first, first + chunk.base.numel(), dtype=torch.int64, device=chunk.base.device)
        z = counter.mul_(_GOLDEN).add_(_signed(stream))
        for shift, factor in _ROUNDS:
            z = z.bitwise_xor_(_shift_right(z, shift)).mul_(factor)
        return _shift_right(z.bitwise_xor_(_shift_right(z, 31)), 33).to(torch.int32)

    return keys


@strategy(
    "random-reference",
    title="random draw of the reference code",
    source="UmeanNever/ParamRestore param_restore.py",
    seeded=True,
)
def random_reference(seed: int, pair: Pair, metas: Sequence[TensorMeta]) -> Keys:
    """The reference code's random draw: `numpy.random.RandomState(seed).choice(n, k, replace=False)`.

    That call takes the first k of `permutation(n)`, so the place in the permutation is the key. Memory
    grows with the region; SpecError above MAX_REFERENCE_WEIGHTS.
    """
    import numpy as np
    import torch

    n = sum(meta.numel for meta in metas)
    if n > MAX_REFERENCE_WEIGHTS:
        raise SpecError(
            f"strategy random-reference: the region has {n:,} weights; allowed: at most "
            f"{MAX_REFERENCE_WEIGHTS:,}. Use strategy random."
        )
    place = np.empty(n, dtype=np.int32)
    place[np.random.RandomState(seed).permutation(n)] = np.arange(n, dtype=np.int32)
    places = torch.from_numpy(place)
    offsets = dict(
        zip((m.name for m in metas), np.cumsum([0, *(m.numel for m in metas)]).tolist(), strict=False)
    )

    def keys(chunk: Chunk) -> torch.Tensor:
        first = offsets[chunk.meta.name] + chunk.start
        return places[first : first + chunk.base.numel()].to(chunk.base.device)

    return keys


@strategy(
    "interpolation",
    title="base + alpha (tuned - base) for all weights",
    source="WiSE-FT (arXiv 2109.01903); task arithmetic (arXiv 2212.04089)",
    takes="alpha",
)
def interpolate(chunk: Chunk, alpha: float) -> torch.Tensor:
    """p + alpha * d in float32, in the dtype that holds both models; alpha 0 and 1 give p and s bit for bit.

    Weights that did not change keep their bits. alpha < 0 goes beyond base, alpha > 1 beyond tuned. Source:
    WiSE-FT (arXiv 2109.01903); task arithmetic (arXiv 2212.04089).
    """
    base, tuned = chunk.base.to(chunk.exact_dtype), chunk.tuned.to(chunk.exact_dtype)
    if alpha == 0:
        return base
    if alpha == 1:
        return tuned
    mixed = (chunk.p + alpha * chunk.d).to(chunk.exact_dtype)
    return mixed.where(chunk.changed, tuned)


@strategy(
    "block",
    title="whole tensors of a block",
    source="arXiv 2509.16596; HFT (arXiv 2404.18466)",
    takes="block",
)
def block(region: AbstractSet[str], inside: AbstractSet[str]) -> AbstractSet[str]:
    """The tensors of a block (some layers, some kinds) go back to base, the rest stays tuned."""
    return inside


@strategy("all-but-block", title="whole tensors outside a block", source="as block", takes="block")
def all_but_block(region: AbstractSet[str], inside: AbstractSet[str]) -> AbstractSet[str]:
    """The other way round within the region: leaving one block out shows what it contributes."""
    return region - inside


@strategy(
    "small-base",
    title="smallest base weight",
    source="a control: what ranking by relative change largely is (update/masks.py)",
    lowest_first=True,
)
def base_weight(p: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """|p|: the same weights for every fine-tuning of one base, whatever they changed by."""
    return p.abs()


@dataclass(frozen=True)
class Order:
    """The order in which a strategy takes weights back."""

    keys: Keys
    score: Score | None = None
    """What is ranked, where the compiled kernels can compute the keys themselves."""
    highest_first: bool = False

    @property
    def is_relative(self) -> bool:
        """Whether it ranks by relative change."""
        return self.score is Score.RELATIVE


def order_of(name: str, pair: Pair, metas: Sequence[TensorMeta], seed: int | None = None) -> Order:
    """The order of a strategy that selects single weights."""
    chosen = STRATEGIES.get(name)
    if chosen.takes != "k_percent":
        raise SpecError(f"strategy {name} selects no single weights")
    if chosen.seeded:
        return Order(chosen.function(seed or 0, pair, metas))
    return Order(lambda chunk: _ranked(chosen, chunk), chosen.measured, not chosen.lowest_first)


def _ranked(chosen: Strategy, chunk: Chunk) -> torch.Tensor:
    """The keys of one chunk by a strategy's score, int32."""
    own = chosen.plugin is not None
    values = _own_scores(chosen, chunk) if own else checked(chosen.function(chunk.p, chunk.s), chunk)
    return bits(values) if chosen.lowest_first else MAX_BITS - bits(values)


def _own_scores(chosen: Strategy, chunk: Chunk) -> torch.Tensor:
    """What a plugin's function gives, float32 and checked. It gets copies: `p` may lie in the model's own memory."""
    import torch

    check_weights(chunk)
    p, s = (weights.to("cpu", torch.float32, copy=True) for weights in (chunk.base, chunk.tuned))
    try:
        values = chosen.function(p, s)
    except Exception as error:
        raise PluginError(
            f"strategy {chosen.name} failed on tensor {chunk.meta.name}: {type(error).__name__}: {error}"
        ) from error
    n, wrong = chunk.base.numel(), None
    if not isinstance(values, torch.Tensor) or not values.is_floating_point():
        wrong = f"gave {getattr(values, 'dtype', type(values).__name__)}; allowed: a tensor of floats"
    elif tuple(values.shape) != (n,):
        wrong = f"gave the shape {list(values.shape)}; allowed: [{n}], one score a weight"
    elif values.isnan().any():
        wrong = "gave NaN; allowed: a number for every weight"
    elif (values < 0).any():
        wrong = f"gave {float(values.min()):g}; allowed: 0 and more (lowest_first=True reverses an order)"
    if wrong is not None:
        raise PluginError(f"strategy {chosen.name} {wrong} (tensor {chunk.meta.name})")
    scores: torch.Tensor = values.detach().to(chunk.base.device, torch.float32)
    return scores.abs()  # -0.0 has another pattern than 0.0


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit number."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift_right(z: torch.Tensor, n: int) -> torch.Tensor:
    """Logical right shift of int64."""
    return (z >> n) & ((1 << (64 - n)) - 1)


def _splitmix64(state: int) -> int:
    mask = (1 << 64) - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_ROUNDS = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)))
