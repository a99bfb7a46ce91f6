"""What each idea of the runtime brings: it, and what others do in its place, measured in turns in one run."""

from .report import Ablation, AblationPlan, AblationReport, Row
from .run import ablate

__all__ = ["Ablation", "AblationPlan", "AblationReport", "Row", "ablate"]
