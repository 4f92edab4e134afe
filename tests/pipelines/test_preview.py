"""The preview of a pull request, and the comment it ends in."""

from pathlib import Path

import pytest

from tests.pipelines.conftest import Runner
from tests.standins.github import LONGEST_TEXT

MARKER = "<!-- archshift-preview:prod -->"
FINE = """
shift; while [ "$1" != --markdown ]; do shift; done
echo '## prod: 0.2 -> 0.5' > "$2"
"""
BLOCKED = FINE.replace("0.5", "0.5, blocked: payments needs x86") + "exit 1\n"
SOMEBODY = {"login": "mallory", "type": "User"}


def previewed(runner: Runner, text: str) -> Path:
    """A folder with a preview, as preview.sh leaves it."""
    runner.results.mkdir(exist_ok=True)
    (runner.results / "preview.md").write_text(text)
    return runner.results


def bodies(runner: Runner, number: int = 7) -> list[str]:
    return [comment["body"] for comment in runner.github.comments.get(number, [])]


class TestPreview:
    def test_a_preview_is_kept_with_its_commit_and_shown_on_the_page_of_the_run(self, runner: Runner) -> None:
        """The comment is written by a later job, from this folder alone."""
        runner.stand_in("archshift-preview", FINE)
        assert runner.run("preview.sh", "prod", runner.results).code == 0
        assert (runner.results / "commit").read_text().strip() == runner.git("rev-parse", "HEAD")
        assert (runner.results / "exit").read_text() == "0\n"
        assert "0.2 -> 0.5" in runner.summary

    def test_a_blocked_preview_fails_the_job_and_is_commented_on_all_the_same(self, runner: Runner) -> None:
        """The blocked ones are those whose text is needed most."""
        runner.stand_in("archshift-preview", BLOCKED)
        assert runner.run("preview.sh", "prod", runner.results).code == 1
        assert (runner.results / "exit").read_text() == "1\n"
        assert runner.run("comment.sh", "prod", "7", runner.results).code == 0
        assert bodies(runner) == [f"{MARKER}\n## prod: 0.2 -> 0.5, blocked: payments needs x86"]

    def test_a_preview_that_fails_leaves_nothing_of_the_one_before(self, runner: Runner) -> None:
        """A runner of one's own keeps its folders."""
        previewed(runner, "an old preview")
        runner.stand_in("archshift-preview", "exit 1")
        assert runner.run("preview.sh", "prod", runner.results).code == 1
        assert not (runner.results / "preview.md").exists()

    def test_the_rules_of_main_judge_it_and_not_its_own(self, runner: Runner) -> None:
        """Nor does its code get the token with which the rules are fetched."""
        base = runner.git("rev-parse", "HEAD")
        runner.commit({"policies/rule.py": "lenient"})
        runner.stand_in("archshift-preview", 'echo "token ${GH_TOKEN-none}" >> "$STAND_INS/calls"\n' + FINE)
        done = runner.run("preview.sh", "prod", runner.results, "main", GH_TOKEN="secret")
        assert done.code == 0, done.stderr
        (call,) = runner.calls("archshift preview")
        assert call.endswith(f"--policy-pack-of {base}")
        assert runner.calls("token") == ["token none"]

    def test_without_the_rules_of_main_there_is_no_preview(self, runner: Runner) -> None:
        """A branch that is not there is no reason to take others."""
        assert runner.run("preview.sh", "prod", runner.results, "gone").code != 0
        assert not runner.calls("archshift preview")
        assert not (runner.results / "exit").exists()


class TestComment:
    def test_it_is_made_once_and_then_updated(self, runner: Runner) -> None:
        """Ten pushes leave one comment, with the newest preview."""
        runner.run("comment.sh", "prod", "7", previewed(runner, "first"))
        done = runner.run("comment.sh", "prod", "7", previewed(runner, "second"))
        assert done.stdout == "updated the comment on prod under #7\n"
        assert bodies(runner) == [f"{MARKER}\nsecond"]

    def test_each_stack_has_its_own(self, runner: Runner) -> None:
        """And the name of one may begin the name of another."""
        for stack in ("prod", "prod-eu", "prod"):
            runner.run("comment.sh", stack, "7", previewed(runner, f"of {stack}"))
        assert [body.splitlines()[1] for body in bodies(runner)] == ["of prod", "of prod-eu"]

    def test_it_is_found_on_a_later_page(self, runner: Runner) -> None:
        """A long conversation comes in pages."""
        for _ in range(5):
            runner.github.comment(7, "looks good", SOMEBODY)
        runner.run("comment.sh", "prod", "7", previewed(runner, "first"))
        runner.run("comment.sh", "prod", "7", previewed(runner, "second"))
        assert bodies(runner)[5:] == [f"{MARKER}\nsecond"]

    def test_a_marker_that_somebody_else_wrote_is_left_alone(self, runner: Runner) -> None:
        """Whoever copies the marker would have their words replaced, or the preview signed by them."""
        runner.github.comment(7, f"{MARKER} mine", SOMEBODY)
        runner.github.comment(7, f"as you say: {MARKER}")
        runner.run("comment.sh", "prod", "7", previewed(runner, "the preview"))
        assert bodies(runner) == [f"{MARKER} mine", f"as you say: {MARKER}", f"{MARKER}\nthe preview"]

    def test_no_preview_is_said_with_where_to_look(self, runner: Runner) -> None:
        """No credentials, or a runner that died: the pull request still says something."""
        runner.run("comment.sh", "prod", "7", previewed(runner, "first"))
        (runner.results / "preview.md").unlink()
        assert runner.run("comment.sh", "prod", "7", runner.results).code == 0
        assert bodies(runner) == [
            f"{MARKER}\n### archshift: no preview of `prod`\n\nThe preview ended without a result; "
            "[the log](https://github.com/acme/shop/actions/runs/77) says why."
        ]

    @pytest.mark.parametrize("letter", ["x", "ü", "🦾"], ids=["ascii", "two-bytes", "four-bytes"])
    @pytest.mark.parametrize("size", [LONGEST_TEXT - 100, LONGEST_TEXT, 4 * LONGEST_TEXT])
    def test_it_is_never_longer_than_github_takes(self, runner: Runner, letter: str, size: int) -> None:
        """GitHub refuses a longer one, and then there would be none; it counts characters, not bytes."""
        text = letter * size
        done = runner.run("comment.sh", "prod", "7", previewed(runner, text))
        assert done.code == 0, done.stderr
        (body,) = bodies(runner)
        assert body.startswith(MARKER + "\n")
        assert len(body) <= LONGEST_TEXT
        if len(MARKER) + 1 + size <= LONGEST_TEXT:
            assert body == f"{MARKER}\n{text}"
        else:
            assert "> Cut to the length limit of comments; [the run]" in body
            assert len(body) == LONGEST_TEXT

    def test_a_marker_of_the_preview_itself_stands_once(self, runner: Runner) -> None:
        """Whether archshift writes it or not."""
        runner.run("comment.sh", "prod", "7", previewed(runner, f"{MARKER}\nthe preview"))
        assert bodies(runner)[0].count(MARKER) == 1

    def test_what_the_preview_says_is_never_run(self, runner: Runner, tmp_path: Path) -> None:
        """Names of workloads and messages of registries are in it."""
        touch = f"touch {tmp_path}/pwned"
        text = f"$({touch}) `{touch}` ; {touch} %s \\n -F @/etc/passwd"
        runner.run("comment.sh", "prod", "7", previewed(runner, text))
        assert bodies(runner) == [f"{MARKER}\n{text}"]
        assert not (tmp_path / "pwned").exists()

    @pytest.mark.parametrize(
        ("stack", "number", "sentence"),
        [
            (
                "prod",
                "7; touch pwned",
                "The second argument must be the number of a pull request, but it is '7; touch pwned'.",
            ),
            ("prod", "", "The second argument must be the number of a pull request, but it is ''."),
            ('x") | "', "7", "The first argument must be the name of a stack"),
            ("../prod", "7", "The first argument must be the name of a stack"),
        ],
    )
    def test_arguments_that_are_none_are_refused(
        self, runner: Runner, stack: str, number: str, sentence: str
    ) -> None:
        """Both come from a form that people fill in."""
        done = runner.run("comment.sh", stack, number, previewed(runner, "x"))
        assert done.code == 1
        assert sentence in done.stderr
        assert not runner.github.asked

    def test_github_down_is_a_failure_and_makes_no_second_comment(self, runner: Runner) -> None:
        """A listing that fails must not read as an empty one."""
        runner.run("comment.sh", "prod", "7", previewed(runner, "first"))
        runner.github.down = True
        assert runner.run("comment.sh", "prod", "7", previewed(runner, "second")).code != 0
        assert runner.github.changes() == [("POST", "/repos/acme/shop/issues/7/comments")]


def test_a_fork_is_told_why_there_is_no_preview_and_how_to_get_one(runner: Runner) -> None:
    """A fork's run has no credentials and a token that only reads: all it can write is its own page."""
    done = runner.run("fork.sh", GH_TOKEN="")
    assert done.code == 0
    assert "never runs for a fork" in runner.summary
    assert "gh workflow run preview.yml --ref from-fork-NUMBER" in runner.summary
    assert not runner.github.asked
    assert not runner.calls()
