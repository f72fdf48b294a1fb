"""The authors' own trainers, by the name of the algorithm."""

from tests.references.authors.modules import A2PR, CQL, IQL, WPC
from tests.references.authors.rapo import RAPO
from tests.references.authors.rebrac import ReBRAC

AUTHORS = {"wpc": WPC, "iql": IQL, "cql": CQL, "a2pr": A2PR, "rapo": RAPO, "rebrac": ReBRAC}
