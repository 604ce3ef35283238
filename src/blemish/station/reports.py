"""What a shift was: counts, defect types, and, from the audit lane, escapes and false alarms with their intervals."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.station.tables import Decision, Verdict
from blemish.stats.intervals import Interval, rate_interval

VERDICTS = ("good", "anomalous", "unreadable")


@final
class Share(NamedTuple):
    """Some of many, with the Clopper-Pearson interval of the rate at 95 %."""

    hits: int
    of: int

    @property
    def interval(self) -> Interval:
        """Both ends."""
        return rate_interval(self.hits, self.of)


@final
class AuditShares(NamedTuple):
    """What the audit lane tells."""

    audited: int
    false_alarms: Share
    """Of the audited images that people call good: those we flagged."""
    misses: Share
    """Of the audited images that people call defective: those we let pass."""
    escapes: Share
    """Of the audited images we let pass: those that people call defective."""


@final
class Report(NamedTuple):
    """A time from `start` up to `end`, in UTC, of one product or of all."""

    start: str
    end: str
    counts: dict[str, int]
    by_hour: list[tuple[str, dict[str, int]]]
    defect_types: list[tuple[str, int]]
    """What people called the defects, the most frequent first; "" where they gave no type."""
    judged_good: int
    judged_defective: int
    audit: AuditShares


def shift_report(session: Session, start: str, end: str, product_id: int | None = None) -> Report:
    """The report of the images that were decided in a time.

    Rates come from the audit lane alone, which is a random sample. Rejects that were looked through are none: nothing
    follows from them about what was let pass.
    """
    within = [Decision.decided_at >= start, Decision.decided_at < end]
    if product_id is not None:
        within.append(Decision.product_id == product_id)
    hour = func.substr(Decision.decided_at, 1, 13)
    by_hour: dict[str, dict[str, int]] = {}
    for at, verdict, count in session.execute(
        select(hour, Decision.verdict, func.count()).where(*within).group_by(hour, Decision.verdict).order_by(hour)
    ):
        by_hour.setdefault(at, dict.fromkeys(VERDICTS, 0))[verdict] = count
    said = select(Verdict, Decision.verdict).join(Decision, Decision.image_id == Verdict.image_id)
    rows = session.execute(said.where(*within).order_by(Verdict.id)).all()
    last = {verdict.image_id: verdict for verdict, _ in rows}.values()
    types = Counter(verdict.defect_type for verdict in last if verdict.judgement == "defective")
    return Report(
        start=start,
        end=end,
        counts={name: sum(hour[name] for hour in by_hour.values()) for name in VERDICTS},
        by_hour=list(by_hour.items()),
        defect_types=sorted(types.items(), key=lambda one: (-one[1], one[0])),
        judged_good=sum(verdict.judgement == "good" for verdict in last),
        judged_defective=sum(verdict.judgement == "defective" for verdict in last),
        audit=_audit_shares(
            (verdict.image_id, verdict.judgement, ours) for verdict, ours in rows if verdict.lane == "audit"
        ),
    )


def audit_shares(session: Session, product_id: int | None = None) -> AuditShares:
    """What the audit lane has told of all images there ever were."""
    said = (
        select(Verdict.image_id, Verdict.judgement, Decision.verdict)
        .join(Decision, Decision.image_id == Verdict.image_id)
        .where(Verdict.lane == "audit")
        .order_by(Verdict.id)
    )
    if product_id is not None:
        said = said.where(Decision.product_id == product_id)
    return _audit_shares((row[0], row[1], row[2]) for row in session.execute(said))


def _audit_shares(said: Iterable[tuple[int, str, str]]) -> AuditShares:
    """From images, what people said of them, and our verdicts; the first counts, who came later had seen ours."""
    first: dict[int, tuple[str, str]] = {}
    for image_id, judgement, ours in said:
        first.setdefault(image_id, (judgement, ours))
    pairs = Counter(first.values())
    return AuditShares(
        audited=len(first),
        false_alarms=_share(pairs, hit=("good", "anomalous"), other=("good", "good")),
        misses=_share(pairs, hit=("defective", "good"), other=("defective", "anomalous")),
        escapes=_share(pairs, hit=("defective", "good"), other=("good", "good")),
    )


def _share(pairs: Counter[tuple[str, str]], hit: tuple[str, str], other: tuple[str, str]) -> Share:
    return Share(pairs[hit], pairs[hit] + pairs[other])


CSV_FIELDS = (
    "image_id",
    "time",
    "product_id",
    "image",
    "image_sha256",
    "model_sha256",
    "score",
    "p_value",
    "threshold",
    "verdict",
    "person",
    "judgement",
    "defect_type",
    "lane",
)


def csv_rows(session: Session, start: str, end: str, product_id: int | None = None) -> Iterator[tuple[object, ...]]:
    """A row for each decision of a time, and for each verdict of a person on it."""
    query = (
        select(Decision, Verdict)
        .outerjoin(Verdict, Verdict.image_id == Decision.image_id)
        .where(Decision.decided_at >= start, Decision.decided_at < end)
        .order_by(Decision.id, Verdict.id)
    )
    if product_id is not None:
        query = query.where(Decision.product_id == product_id)
    with session.execute(query.execution_options(yield_per=500)) as rows:
        for decision, verdict in rows:
            person = ("", "", "", "")
            if verdict is not None:
                person = (verdict.user_name, verdict.judgement, verdict.defect_type, verdict.lane)
            yield (
                decision.image_id,
                decision.decided_at,
                decision.product_id,
                safe_cell(decision.image_path),
                decision.image_sha256,
                decision.model_sha256,
                decision.score,
                decision.p_value,
                decision.threshold,
                decision.verdict,
                *map(safe_cell, person),
            )


def safe_cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula.

    >>> safe_cell("=1+1"), safe_cell("crack")
    ("'=1+1", 'crack')
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
