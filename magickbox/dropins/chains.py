"""Chains of processors: what is wrong with their steps, and from steps that name drop-ins to steps that can run."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import xxhash

from magickbox.bytesize import in_bytes
from magickbox.positionedjson import Document
from magickbox.processor import ChainStep, Processor, in_chain
from magickbox.rules.check import Problem

OF_EACH = (
    "command", "image", "image_archive", "convention", "settings", "environment", "resources", "network",
)  # fmt: skip
OF_THE_NAMED = ("command", "image", "image_archive", "convention", "network")


def labels(steps: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What people call the steps: by name, by the processor's name, or by number."""
    return tuple(step.get("name") or step.get("processor") or str(n) for n, step in enumerate(steps, 1))


def step_problems(document: Document) -> Iterator[Problem]:
    """What is wrong with a processor.json that has steps, apart from each step's own command and image."""
    value: dict[str, Any] = document.value
    for key in OF_EACH:
        if key in value:
            yield Problem((key,), document.keys[(key,)], "a chain has steps: this belongs to one of them")
    seen: set[str] = set()
    for index, (step, label) in enumerate(zip(value["steps"], labels(value["steps"]), strict=True)):
        path = ("steps", index)
        for key in OF_THE_NAMED:
            if "processor" in step and key in step:
                yield Problem((*path, key), document.keys[(*path, key)], "the processor that is named has its own")
        if "processor" not in step and label.casefold() in seen:
            yield Problem(path, document.values[path], f"two steps are called '{label}'; give it another name")
        seen.add(label.casefold())


def resolve(chain: Processor, good: Mapping[str, Processor], bad: Mapping[str, str]) -> Processor | tuple[str, ...]:
    """The chain with steps that can run, or what is wrong with them; drop-ins are by their names in lower case."""
    names = tuple(step.label for step in chain.steps)
    problems, steps = [], []
    for number, step in enumerate(chain.steps, 1):
        why = _why_not(chain, step, good, bad)
        if why is not None:
            problems.append(f"{in_chain(names, number)}: {why}")
        else:
            steps.append(_resolved(chain, step, good))
    if problems:
        return tuple(problems)
    digest = chain.digest
    if named := [step.processor.digest for step in steps if step.named is not None]:
        digest = xxhash.xxh3_128(" ".join([chain.digest, *named]).encode()).hexdigest()
    return replace(chain, steps=tuple(steps), digest=digest, resources=tuple(_largest(steps).items()))


def _why_not(chain: Processor, step: ChainStep, good: Mapping[str, Processor], bad: Mapping[str, str]) -> str | None:
    if step.named is None:
        return None
    key, own = step.named.casefold(), chain.name.casefold()
    if key == own:
        return "the chain names itself"
    if key in bad:
        return f"the processor {step.named} is bad: {bad[key]}"
    if key not in good:
        near = difflib.get_close_matches(step.named, [one.name for one in good.values()], n=1)
        return f"there is no processor {step.named}" + (f"; did you mean {near[0]}?" if near else "")
    if good[key].steps:
        circle = _way_back(key, own, good)
        if circle:
            return f"the chain leads back to itself: {' -> '.join((chain.name, *circle, chain.name))}"
        return f"the processor {good[key].name} is a chain itself; name its steps here"
    if chain.enabled and not good[key].enabled:
        return f"the processor {good[key].name} is switched off"
    return None


def _way_back(start: str, goal: str, good: Mapping[str, Processor]) -> tuple[str, ...]:
    """The names from ``start`` on by which one comes to ``goal``; none if one does not."""
    waiting: list[tuple[str, ...]] = [(start,)]
    seen = {start}
    while waiting:
        way = waiting.pop()
        for step in good[way[-1]].steps:
            name = (step.named or "").casefold()
            if name == goal:
                return tuple(good[each].name for each in way)
            if name in good and name not in seen:
                seen.add(name)
                waiting.append((*way, name))
    return ()


def _resolved(chain: Processor, step: ChainStep, good: Mapping[str, Processor]) -> ChainStep:
    own = step.processor
    if step.named is None:
        return replace(step, processor=replace(own, version=chain.version, digest=chain.digest))
    named = good[step.named.casefold()]
    one = replace(
        named,
        settings=own.settings if "settings" in own.declared else named.settings,
        environment=tuple({**dict(named.environment), **dict(own.environment)}.items()),
        resources=tuple({**dict(named.resources), **dict(own.resources)}.items()),
        timeout=own.timeout or named.timeout,
    )
    return replace(step, processor=one)


def _largest(steps: Sequence[ChainStep]) -> dict[str, object]:
    """What a run of the chain holds while it lasts: the most that any of its steps asks for."""
    asked = [dict(step.processor.resources) for step in steps]
    measures: dict[str, Callable[[object], float]] = {
        "cpus": lambda told: float(str(told)),
        "memory": in_bytes,
        "gpus": lambda told: float(str(told)),
    }
    found: dict[str, object] = {}
    for key, measure in measures.items():
        if told := [each[key] for each in asked if key in each]:
            found[key] = max(told, key=measure)
    return found
