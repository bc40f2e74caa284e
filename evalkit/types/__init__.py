"""The nouns: what travels down the line, as frozen data and Protocols.

One sentence carries the design: every number is `metric@instrument` of a sample set against a reference, and an
instrument is anything that turns one sample into one row of numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .board import (
    Cell,
    Column,
    Comparison,
    Curves,
    Exhibit,
    Grid,
    Leaderboard,
    Line,
    Matrix,
    Pair,
    Pairs,
    Picture,
    Point,
    Row,
    Scatter,
    Table,
)
from .line import (
    Arranging,
    Batch,
    Control,
    Detector,
    Excluded,
    Extractor,
    Features,
    Generator,
    Latent,
    MediaFacts,
    Modality,
    Moments,
    Progress,
    Role,
    Sample,
    SampleSet,
    Timing,
    Unrounded,
)
from .metrics import (
    ASKS,
    Better,
    Estimate,
    Metric,
    MetricResult,
    Part,
    Value,
    metric,
)
from .records import (
    SHARED,
    Reference,
    RunRecord,
    Share,
    Subject,
)

if TYPE_CHECKING:
    from .line import Media

__all__ = [
    "ASKS",
    "SHARED",
    "Arranging",
    "Batch",
    "Better",
    "Cell",
    "Column",
    "Comparison",
    "Control",
    "Curves",
    "Detector",
    "Estimate",
    "Excluded",
    "Exhibit",
    "Extractor",
    "Features",
    "Generator",
    "Grid",
    "Latent",
    "Leaderboard",
    "Line",
    "Matrix",
    "Media",
    "MediaFacts",
    "Metric",
    "MetricResult",
    "Modality",
    "Moments",
    "Pair",
    "Pairs",
    "Part",
    "Picture",
    "Point",
    "Progress",
    "Reference",
    "Role",
    "Row",
    "RunRecord",
    "Sample",
    "SampleSet",
    "Scatter",
    "Share",
    "Subject",
    "Table",
    "Timing",
    "Unrounded",
    "Value",
    "metric",
]
