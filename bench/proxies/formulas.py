"""The proxies of the papers' tables in the language.

A transformer layer has four linear maps, ``qkv proj fc1 fc2``; patch embedding, class token, positions and head are no
sites and are in no sum. In a convolutional network every convolution is one layer.
"""

from __future__ import annotations

from .published import Published

LINEAR = ("qkv", "proj", "fc1", "fc2")
"""The linear maps of a transformer layer."""
_LIGHTWEIGHT = "as a proxy: Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS (ICLR 2021)"
_BLOCKS = "over the linear layers of the blocks; patch embedding and head are not collected"


def _summed(name: str, per_map: str, paper: str, note: str = _BLOCKS) -> Published:
    """A proxy that is a sum over all linear maps or convolutions; ``{0}`` in ``per_map`` is the site."""

    def over(sites: tuple[str, ...]) -> str:
        return "layer_sum(" + " + ".join(per_map.format(site) for site in sites) + ")"

    return Published(name, over(LINEAR), paper, note, over(("conv",)))


_NUCLEAR = "nuclear_norm({0}.v) * nuclear_norm(abs({0}.w))"
_DIVERSITY = " + ".join(_NUCLEAR.format(site) for site in ("qkv", "proj"))
_SALIENCY = " + ".join(f"sum(abs({site}.v * {site}.w))" for site in ("fc1", "fc2"))
_TFTAS = "TF-TAS (Zhou et al., CVPR 2022)"
_DSS_NOTE = (
    "the paper writes dL/dW * W without absolute values; its code takes them, of the gradients and of all weights, and "
    "differentiates the network with absolute weights: so do we. Its code finds the attention by 'qkv' in the module's "
    "name or equal input and output widths (proj); on the published supernet the qkv term is 0, as the sampled qkv "
    "weight has no gradient there, ours has one"
)

FORMULAS: tuple[Published, ...] = (
    Published(
        "AutoProxA",
        "abs(qkv.g) + normalized_sum(sigmoid(fc1.g))",
        "Auto-Prox (AAAI 2024), eq. 2, found for AutoFormer",
        "the paper names an MLP gradient without saying of which layer: fc1; the implied reductions are means",
    ),
    Published(
        "AutoProxP",
        "frobenius(sigmoid(qkv.w)) - log_softmax(abs(fc1.w))",
        "Auto-Prox (AAAI 2024), eq. 3, found for PiT",
        "the paper's norm inside the logarithm is read as elementwise |W|: of a number log-softmax is 0",
    ),
    _summed("SNIP", "sum(abs({0}.w * {0}.g))", f"Lee et al. (ICLR 2019); {_LIGHTWEIGHT}"),
    _summed("SynFlow", "sum(abs({0}.w * {0}.v))", f"Tanaka et al. (NeurIPS 2020); {_LIGHTWEIGHT}"),
    Published(
        "AutoProxConfig",
        "frobenius(min_max(fc1.w)) + sqrt(sigmoid(hidden.g))",
        "Auto-Prox (AAAI 2024), the genotype in the configuration files of its code, the same for both spaces",
        "its inputs t2 and t4g are read as the second value and the fourth gradient of the eight inputs, F2 and F4g; "
        "neither eq. 2 nor eq. 3 of the paper is this proxy",
    ),
    _summed(
        "Plain",
        "dot({0}.w, {0}.g)",
        _LIGHTWEIGHT,
        "w * g summed with its sign, as in the code; the Auto-Prox code takes all linear layers, head included",
    ),
    _summed(
        "LogSynFlow",
        "dot(abs({0}.w), log(1 + abs({0}.v)))",
        "Cavagnero et al., FreeREA (WACV 2023)",
        "the logarithm of the gradient plus 1, so that large gradients do not decide the sum",
    ),
    _summed("GradNorm", "frobenius({0}.g)", _LIGHTWEIGHT),
    _summed(
        "L2Norm",
        "frobenius({0}.w)",
        "Abdelfattah et al. (ICLR 2021), l2_norm of the code",
        "the norms of the weights: at a standard initialisation a function of the shapes and of little else",
    ),
    Published(
        "Fisher",
        "layer_sum(sum(square(hidden.a * hidden.g)))",
        f"Theis et al. (2018), Turner et al. (ICLR 2020); {_LIGHTWEIGHT}",
        "squared per element: the code first sums a * g over the positions of one image and halves the result, which "
        "the language cannot say (its segments hold all images). Table 1 of Auto-Prox writes (dL/dz)^2 without z",
        "layer_sum(sum(square(act.a * act.g)))",
    ),
    Published("DSS", f"layer_sum({_DIVERSITY} + {_SALIENCY})", _TFTAS, _DSS_NOTE),
    Published(
        "DSS-diversity",
        f"layer_sum({_DIVERSITY})",
        f"{_TFTAS}, the synaptic diversity",
        _DSS_NOTE,
    ),
    Published("DSS-saliency", f"layer_sum({_SALIENCY})", f"{_TFTAS}, the synaptic saliency of the MLPs", _DSS_NOTE),
    Published(
        "EMQ",
        "mean(softmax(abslog(fc1.v))) * mean(sqrt(relu(fc1.w)))",
        "EMQ (Dong et al., ICCV 2023), the genotype in its code: Spearman 0.7635 on its quantised networks",
        "a product of means, layer by layer. The code's virtual gradient leaves the signs of the weights, ours makes "
        "them absolute (SynFlow); the code multiplies by a layer's bit width, which a float network does not have. The "
        "mean of a softmax over the rows is one over their number: the first factor is a function of the shape",
        "mean(softmax(abslog(conv.v))) * mean(sqrt(relu(conv.w)))",
    ),
    _summed(
        "PrunerZero",
        "sum(abs({0}.w * {0}.w) * min_max({0}.g))",
        "Pruner-Zero (Dong et al., ICML 2024), the best tree of its code: |W * W| * min_max(G)",
        "made to prune language models weight by weight; as a proxy its values are summed. The code's min_max divides "
        "by 0 on a constant gradient, ours gives 0",
    ),
)
"""In the order of the tables."""
