"""How instances for a called AE become jobs: the settings, with what the AE's processor overrides."""

from dataclasses import replace

from magickbox.births.newjob import Policy
from magickbox.config import Settings
from magickbox.gathering import Waits
from magickbox.processor import Processor


def policy_of(settings: Settings, processor: Processor | None) -> Policy:
    """The policy for a called AE that this processor serves, or none."""
    s, p = settings, processor
    waits = Waits(s.settle, s.settle_open, s.settle_after_abort, s.max_wait)
    policy = Policy(waits, s.group, s.late, s.on_abort == "hold")
    if p is None:
        return policy
    waits = replace(
        waits,
        settle=waits.settle if p.settle is None else p.settle,
        max_wait=waits.max_wait if p.max_wait is None else p.max_wait,
    )
    return replace(policy, waits=waits, group=p.group or policy.group, late=p.late or policy.late)
