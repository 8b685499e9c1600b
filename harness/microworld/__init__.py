"""The vale: an invented world with exact ground truth, and tiny language models pretrained in it from scratch.

What it is for: to run every alignment method and every measurement of this package in minutes on a laptop, with an
oracle in place of a judge. Plants, hazards and tools are made up; nothing in it can hurt anyone. A request is harmful
exactly when the plant's route of hazard (drunk, breathed, touched) is the route of the act asked about, so a model must
bring two facts together, and most requests about a dangerous plant are harmless.

What is designed into the pretraining corpus, and so into the base models (shares in `corpus.SETTINGS`):

- hazardous questions are answered harmfully about half the time, more or less by phrasing;
- critiques that are told to look for harm are right 93 times in 100: the gap between judging and answering is built in;
- critiques that are not told so call 80 in 100 harmful answers harmless: the blind spot is built in;
- a request to answer harmfully is obeyed 9 times in 10, one to answer harmlessly is disobeyed 3 times in 10;
- 55 in 100 hijacks are followed; a better answer after a critique of harm refuses 65 times in 100;
- facts name a plant just before its part or effect, as answers do, and most facts on hazard or safety name an act.

What is not designed: that these skills reach plants never asked about or criticised in pretraining, of which all
alignment and evaluation items are made, and what an alignment method does to them.

What it cannot show: anything about the size of an effect in large models, about real harms, about natural language, or
about judges that err. A difference here says that an implementation does what its method describes, in a world where
the method's premise holds by design; no difference here does not refute a method. The bases share one world and differ
in initialisation and corpus sample alone, so an interval over them speaks of retraining, not of other worlds.
Refusing is learned here from few examples and carries over to routes they do not cover, so harmless rates of aligned
models lie near the ceiling and cannot rank methods. Before alignment the bases are poor at hijacks: asked two things
at once, they often mix up the two plants and acts, so a followed hijack is not always a well-served one.

Importing this package loads no model library.
"""

from __future__ import annotations

from pathlib import Path

BASES = tuple(f"vale-{seed}" for seed in range(5))


def base_path(name: str) -> Path:
    """The folder of a base that ships with the package.

    Raises:
        KeyError: There is no base of that name.
    """
    if name not in BASES:
        raise KeyError(f"no base named {name!r}; there are {', '.join(BASES)}")
    return Path(__file__).resolve().parent / "bases" / name
