"""Which project number belongs to which server."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Json
from stellarstack.errors import InsufficientResources, StoreFailed
from stellarstack.files import projects
from stellarstack.files.projects import COUNT, FIRST, KEY, Project, Projects
from tests.fake_quota import FakeValues


class ProjectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = FakeValues()
        self.projects = self.loaded()

    def loaded(self) -> Projects:
        found = Projects(self.store)
        self.successResultOf(Deferred.fromCoroutine(found.load()))
        return found

    def keep(self, server_id: str) -> Project:
        project = self.projects.choose(server_id, lambda _: False)
        self.successResultOf(Deferred.fromCoroutine(self.projects.keep(server_id, project)))
        return project

    def test_stable(self) -> None:
        """The number of an id is the same without any database, and in our range."""
        first = self.projects.choose("srv_1", lambda _: False)
        self.assertEqual(Projects(FakeValues()).choose("srv_1", lambda _: False), first)
        self.assertTrue(FIRST <= first.number < FIRST + COUNT)

    def test_one_each(self) -> None:
        """P03: no two servers get the same number, also where their ids lead to the same."""
        self.patch(projects, "COUNT", 50)
        numbers = [self.keep(f"srv_{number}").number for number in range(50)]
        self.assertEqual(len(set(numbers)), 50)
        self.assertRaises(InsufficientResources, self.projects.choose, "srv_50", lambda _: False)

    def test_in_use(self) -> None:
        """A number that somebody else's files carry is passed over."""
        first = self.projects.choose("srv_1", lambda _: False).number
        self.assertEqual(
            self.projects.choose("srv_1", lambda number: number == first).number,
            FIRST + (first - FIRST + 1) % COUNT,
        )

    def test_kept(self) -> None:
        """What is kept is there after a restart; what is dropped is not."""
        project = self.keep("srv_1")
        self.successResultOf(Deferred.fromCoroutine(self.projects.finished("srv_1")))
        self.assertEqual(self.loaded().get("srv_1"), Project(project.number, True))
        self.successResultOf(Deferred.fromCoroutine(self.projects.drop("srv_1")))
        self.successResultOf(Deferred.fromCoroutine(self.projects.drop("srv_1")))
        self.assertIsNone(self.loaded().get("srv_1"))
        self.assertEqual(self.store.values[KEY], {})

    def test_nonsense(self) -> None:
        """Entries of another shape or another's range are left out."""
        rows: dict[str, Json] = {"a": 5, "b": [1, True], "c": [FIRST, "x"], "d": [FIRST + 1, False]}
        self.store.values[KEY] = rows
        found = self.loaded()
        self.assertEqual([found.get(key) for key in "abcd"], [None, None, None, Project(FIRST + 1)])
        self.store.values[KEY] = "no table"
        self.assertIsNone(self.loaded().get("d"))

    def test_full(self) -> None:
        """What cannot be kept is told (K14)."""
        self.store.full = True
        failed = Deferred.fromCoroutine(self.projects.keep("srv_1", Project(FIRST)))
        self.failureResultOf(failed, StoreFailed)
