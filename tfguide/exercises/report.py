"""What is told of the exercises: the list with what is solved, the hints, and what comes next."""

from __future__ import annotations

from typing import Any

from tfguide.exercises.entry import TITLES, Exercise
from tfguide.exercises.registry import EXERCISES
from tfguide.exercises.starters import describe

CHAPTERS = {
    1: "Background", 2: "Concepts", 3: "Algorithms", 4: "Mathematics", 5: "Practice", 6: "Efficient inference",
}  # fmt: skip


def status_text(progress: dict[str, dict[str, Any]]) -> str:
    """Every exercise by chapter: its section, grade and title, and in which frameworks it is solved."""
    parts = []
    for chapter, title in CHAPTERS.items():
        own = [exercise for exercise in EXERCISES if exercise.chapter == chapter]
        solved = sum(bool(progress.get(exercise.id, {}).get("solved")) for exercise in own)
        lines = [f"Chapter {chapter}, {title}: {solved} of {len(own)} solved"]
        lines += [_row(exercise, progress.get(exercise.id, {})) for exercise in own]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "[x] is solved, [.] is started; the stars are the grade."])


def _row(exercise, entry):
    solved, started = entry.get("solved", {}), entry.get("files", {})
    mark = "x" if solved else "." if started else " "
    where = ", ".join(TITLES[name] for name in solved) if exercise.tensors else ""
    row = f"  [{mark}] {exercise.section:<5}{'*' * exercise.grade:<4}{exercise.id:<21}{where}"
    return row.rstrip()


def next_exercise(exercise: Exercise, progress: dict[str, dict[str, Any]]) -> Exercise | None:
    """The first exercise behind this one that is not solved, or before it; None where all are."""
    place = EXERCISES.index(exercise)
    others = (*EXERCISES[place + 1 :], *EXERCISES[:place])
    return next((other for other in others if not progress.get(other.id, {}).get("solved")), None)


def next_text(exercise: Exercise, progress: dict[str, dict[str, Any]]) -> str:
    """What to do after an exercise that is solved."""
    following = next_exercise(exercise, progress)
    if following is None:
        return "That was the last one: all exercises are solved."
    return f"Next: {following.title} ({describe(following)})\n    tfguide exercise start {following.id}"


def page_box(page: str) -> str:
    """The box that names the exercises of a page at its end, as "04e" of 04e_positions; "" where it has none."""
    own = [exercise for exercise in EXERCISES if exercise.page == page]
    if not own:
        return ""
    this, it = ("this", "it") if len(own) == 1 else ("these", "them")
    lines = [
        f"Write {this} as code, and the package checks {it}: in a shell after `tfguide exercise start {own[0].id}`,",
        f'in a notebook with `check("{own[0].id}", my_function)` from `tfguide.exercises`. [Use it](#use-it-exercises)',
        "shows how.",
    ]
    names = [f"* `{exercise.id}`, grade {exercise.grade}: {exercise.title}" for exercise in own]
    return "\n".join([":::{admonition} Check yourself", ":class: tip", "", *lines, "", *names, ":::"]) + "\n"


def hint_text(exercise: Exercise, number: int) -> str:
    """The hint of this number, from 1; of a number beyond the last one all three, and where the solution is."""
    if number <= len(exercise.hints):
        return f"Hint {number} of {len(exercise.hints)}: {exercise.hints[number - 1]}"
    lines = [f"{i}. {hint}" for i, hint in enumerate(exercise.hints, start=1)]
    return "\n".join(["These were all hints:", *lines, f"The solution: tfguide exercise solution {exercise.id}"])
