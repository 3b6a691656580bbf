"""The timers of one release take the place of those of another. Whatever fails, the old ones are put back.

No job is started or ended by it: one that is under way finishes in the unit of its own release, and the next one,
whichever release it is of, waits for it (After=).
"""

import re
from pathlib import Path

from appctl import disk, owed, releases, talk, timers
from appctl.app import App
from appctl.instance import unit_text
from appctl.ours import Ours
from appctl.process import CtlError, run
from appctl.releases import short
from appctl.timers import Job, named_in, planned, services, suspended, there, unit, waiting

WAITS = re.compile(r"\n\[Unit\]\nAfter=.*\n\Z")
"""What the unit of the current job has at its end, and no other."""


class Schedule:
    """The timers that a release has from this deploy on."""

    def __init__(self, app: App, release: str) -> None:
        self.app = app
        self.release = release
        self.before = timers.texts(app)
        self.jobs = [Job(timer, short(release)) for timer in timers.of(app, release)]
        self.after = {job.timer: unit_text(app, release, unit(app, job.timer)) for job in self.jobs}
        self.begun = False

    def place(self) -> None:
        """Have systemd know the jobs, with what the operator has added to the application's. Raises CtlError."""
        app = self.app
        clear(app)
        if not self.jobs:
            return
        ours = Ours(app.name, app.base)
        files = {job: app.system / job.name(app) for job in self.jobs}
        made = ours.made() or []
        for path in (*files.values(), *(app.system / unit(app, job.timer) for job in self.jobs)):
            if path.exists() and recorded(app, path) not in made:
                raise CtlError(
                    f"gunicorn_fastapi_timers: {path} is there, and this role did not make it. Remove it, or choose "
                    "another name for the timer"
                )
        for job, path in files.items():
            if not path.exists():  # else it is under way, or served before: the text is the release's all the same
                ours.add(recorded(app, path))
                disk.durable(path, unit_text(app, self.release, f"{app.name}-{job.timer}.service"))
            link = path.with_name(f"{path.name}.d")
            ours.add(recorded(app, link))
            link.unlink(missing_ok=True)
            if app.extensions.is_dir():
                link.symlink_to(app.extensions)
        run("systemctl", "daemon-reload")

    def switch(self) -> None:
        """Have the timers run the jobs of this release. Raises CtlError."""
        self.begun = True
        put(self.app, self.after)

    def undo(self) -> None:
        """Put those of before back. Raises CtlError when that fails."""
        if self.begun:
            put(self.app, self.before)
        clear(self.app)

    def retire(self) -> None:
        """Say what there is from now on, and forget what is over."""
        app = self.app
        clear(app)
        held = suspended(app)
        for timer in sorted({*self.before, *self.after}):
            if timer not in self.after:
                talk.say(app, f"{timer}: the release has no such timer, so it is removed", self.release)
            elif timer in held:
                talk.say(app, f"{timer}: {told(app, held[timer], timer)}", self.release)
            elif timer not in self.before:
                talk.say(app, f"{timer}: {unit(app, timer)} runs it from now on", self.release)
        for job in there(app):
            if job not in self.jobs:
                told_of = f"{job.timer}: {job.name(app)} finishes what it does, and the next one waits"
                talk.say(app, told_of, self.release)


def recorded(app: App, path: Path) -> str:
    """A file as the record of what is the application's has it."""
    return f"/{path.relative_to(app.base)}"


def told(app: App, held: dict[str, str], timer: str) -> str:
    """That a timer is suspended, in words."""
    return f"suspended since {held['since']} by {held['by']}, so nothing runs ({app.name}ctl timers resume {timer})"


def put(app: App, texts: dict[str, str]) -> None:
    """Have exactly these timers, by the texts of their units, and have them wait for their times. Raises CtlError."""
    before = timers.texts(app)
    jobs = {timer: job for timer, text in texts.items() if (job := named_in(app, text))}
    gone = [timer for timer in before if timer not in texts]
    changed = [timer for timer, text in texts.items() if before.get(timer) != text]
    stop(app, gone)
    owed.cancel(app, jobs)
    ours = Ours(app.name, app.base)
    for timer in gone:
        (app.system / unit(app, timer)).unlink()
    if gone:
        paths = {recorded(app, app.system / unit(app, timer)) for timer in gone}
        ours.write([thing for thing in ours.made() or [] if thing not in paths])
    for timer in changed:
        ours.add(recorded(app, app.system / unit(app, timer)))
        disk.durable(app.system / unit(app, timer), texts[timer])
    if order(app, jobs) or gone or changed:
        run("systemctl", "daemon-reload")
        owed.cancel(app, jobs)  # of a time that came meanwhile
    held = suspended(app)
    stop(app, [timer for timer in texts if timer in held])
    # One whose job is under way would wait for the end of that, though it is not its own any more. Others are not
    # restarted, for that would lose what `spread` still delays.
    start(app, [timer for timer in texts if timer not in held], restarted=changed)
    for timer in owed.noted(app):
        owed.decide(app, jobs.get(timer), timer)


def order(app: App, jobs: dict[str, Job]) -> bool:
    """Have these jobs wait for any other one of their timers. Whether systemd does not know that yet.

    What is under way waits for nobody: systemd refuses two that wait for each other. What waits goes on to wait.
    """
    installed, running, changed = services(app), there(app), False
    for job in installed:
        path = app.system / job.name(app)
        text = path.read_text()
        wanted = WAITS.sub("", text) if job in running or job in jobs.values() else text
        others = [other.name(app) for other in installed if other.timer == job.timer and other != job]
        if others and jobs.get(job.timer) == job:
            wanted += f"\n[Unit]\nAfter={' '.join(others)}\n"
        if wanted != text:
            disk.durable(path, wanted)
            changed = True
    return changed


def start(app: App, names: list[str], restarted: list[str] | None = None) -> None:
    """Have timers wait for their times, also after a boot. Raises CtlError."""
    if not names:
        return
    wants = app.system / "timers.target.wants"
    wants.mkdir(exist_ok=True)
    for timer in names:
        if not timers.wants(app, timer):
            (wants / unit(app, timer)).symlink_to(app.system / unit(app, timer))
    if restarted:
        states = timers.states(f"{app.name}-*.timer")
        busy = [unit(app, t) for t in names if t in restarted and states.get(unit(app, t), ("", ""))[1] == "running"]
        if busy:
            run("systemctl", "stop", *busy)
    run("systemctl", "start", *(unit(app, timer) for timer in names))


def stop(app: App, names: list[str]) -> None:
    """Have timers run nothing from now on, also after a boot. What is under way goes on. Raises CtlError."""
    for timer in names:
        (app.system / "timers.target.wants" / unit(app, timer)).unlink(missing_ok=True)
    if names:
        run("systemctl", "stop", *(unit(app, timer) for timer in names))


def clear(app: App) -> None:
    """Remove the units of jobs that no timer runs any more, and that are over."""
    installed = services(app)
    needed = {*there(app), *planned(app).values()} if installed else set()
    gone = [job for job in installed if job not in needed]
    gone = [job for job in gone if job not in waiting(app, gone)]
    if not gone:
        return
    names = [job.name(app) for job in gone]
    for name in names:
        for path in (app.system / f"{name}.d", app.system / name):
            path.unlink(missing_ok=True)
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", *names, check=False)
    ours = Ours(app.name, app.base)
    paths = {recorded(app, app.system / f"{name}{end}") for name in names for end in ("", ".d")}
    ours.write([thing for thing in ours.made() or [] if thing not in paths])


def settle(app: App) -> None:
    """Bring the timers to the release that serves, after an interruption. Raises CtlError."""
    if timers.is_settled(app):
        return
    schedule = Schedule(app, releases.current(app))
    schedule.place()
    schedule.switch()
    schedule.retire()
