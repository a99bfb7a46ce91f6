"""Chat templates from hostile files: bounded in time and memory, nothing of Python, of the machine or its files."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tlite_vk import chat_sandbox
from tlite_vk.chat_template import ChatTemplate
from tlite_vk.errors import InputError, ModelError

PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
ASK = [{"role": "user", "content": "hello"}]
DOUBLED = "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}{{ ns.x }}"
ENDLESS = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"

HOSTILE = {
    "a long text": "{{ 'a' * 10**10 }}",
    "a long text of a name": "{{ (messages[0].content * 10**9) | length }}",
    "a padded text": "{{ 'a' | center(10**10) }}",
    "a formatted number": "{{ '%10000000000d' % 1 }}",
    "a formatted text": "{{ '{:>10000000000}'.format('a') }}",
    "a doubled text": DOUBLED % ("'ab'", "ns.x ~ ns.x"),
    "a doubled list": DOUBLED % ("[1]", "[ns.x, ns.x]"),
    "a doubled sum": DOUBLED % ("[1]", "ns.x + ns.x"),
    "a huge range": "{{ range(10**9) | list | length }}",
    "a text that comes in parts": "{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
    "a macro of itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "Python's inside": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "Python's inside by filter": "{{ (messages | attr('__class__')).mro() }}",
    "a global": "{{ raise_exception.__globals__ }}",
    "a global of a macro": "{{ namespace.__init__.__globals__.os.system('true') }}",
    "a method that formats": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "a file": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}{{ os }}",
    "a change": "{{ messages.clear() }}",
}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would run for ever is given up sooner."""
    monkeypatch.setattr(chat_sandbox, "SECONDS", 2.0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates(name: str) -> None:
    try:
        said = ChatTemplate(HOSTILE[name], {}).render(ASK)
    except (InputError, ModelError) as error:
        assert "\n" not in str(error) and len(str(error)) < 300
    else:
        assert not said.replace("\n", "").strip(), said[:200]  # an undefined value is nothing
    assert ChatTemplate(PLAIN, {}).render(ASK) == "user: hello\n"


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("source", [ENDLESS, "{{ 10 ** (10 ** 10) }}", "{{ 'a' if 7 ** (7 ** 9) else 'b' }}"])
def test_endless_templates(source: str) -> None:
    template = ChatTemplate(source, {})
    with pytest.raises(InputError, match=r"refuses these messages: it takes (more than 2 seconds|too much memory)"):
        template.render(ASK)
    assert ChatTemplate(PLAIN, {}).render(ASK) == "user: hello\n"


@pytest.mark.parametrize("source", ["{{ " + "(" * 5000, "{{ a" + ".a" * 5000 + " }}", "{% if a %}" * 3000, "a" * 2**21])
def test_sources_that_are_too_much(source: str) -> None:
    with pytest.raises((ModelError, InputError), match="the model's chat template"):
        ChatTemplate(source, {}).render(ASK)


@pytest.mark.parametrize("source", ["{{ 'a' | frobnicate }}", "{% if 1 is frobnicated %}{% endif %}"])
def test_unknown_filters_and_tests(source: str) -> None:
    with pytest.raises(ModelError, match=r"is not valid: there is no .* named 'frobnicate"):
        ChatTemplate(source, {})


def test_the_process_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate(PLAIN, {})
    template.render(ASK)
    first = chat_sandbox._running
    assert first is not None
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    assert template.render(ASK) == "user: hello\n"
    second = chat_sandbox._running
    assert second is not None and second is not first

    def interrupted() -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(second, "_line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            template.render(ASK)
    assert template.render([{"role": "user", "content": "another"}]) == "user: another\n"


def test_threads_take_turns() -> None:
    template = ChatTemplate(PLAIN, {})
    barrier = threading.Barrier(4)

    def ask(i: int) -> str:
        barrier.wait()
        return "".join(template.render([{"role": "user", "content": f"{i} {j}"}]) for j in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == ["".join(f"user: {i} {j}\n" for j in range(20)) for i in range(4)]
