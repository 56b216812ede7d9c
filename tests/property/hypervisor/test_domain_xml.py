"""Whatever a person hands in, the answer is a guest or InvalidInput; and normalising is done once and for all."""

from xml.sax.saxutils import escape, quoteattr

from hypothesis import given
from hypothesis import strategies as st

from holdfast.hypervisor.domain_xml import GuestDefinition, parse_guest
from holdfast.hypervisor.guest_paths import paths_outside
from holdfast.model.errors import InvalidInput

UUID = "5b5f1b8c-0f5e-4a55-9c0e-3f2d7a1e9b11"
TAGS = ["domain", "name", "uuid", "memory", "vcpu", "devices", "disk", "source", "driver", "target", "os", "kernel",
        "on_crash", "backingStore", "filesystem", "q:x"]  # fmt: skip
ATTRIBUTES = ["type", "device", "file", "dev", "dir", "unit", "id", "error_policy", "name", "xmlns", "xmlns:q"]
VALUES = st.one_of(
    st.sampled_from(["kvm", "qemu", "file", "block", "cdrom", "MiB", "/a/b", "1", "512", "vm-1", UUID, ""]),
    st.text(max_size=8),
)


@st.composite
def elements(draw: st.DrawFn, children: st.SearchStrategy[str]) -> str:
    tag = draw(st.sampled_from(TAGS))
    attributes = draw(st.dictionaries(st.sampled_from(ATTRIBUTES), VALUES, max_size=3))
    written = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
    return f"<{tag}{written}>{''.join(draw(st.lists(children, max_size=5)))}</{tag}>"


TREES = st.recursive(VALUES.map(escape), elements, max_leaves=12)


@st.composite
def domains(draw: st.DrawFn) -> str:
    """Mostly good domains with parts that may be anything."""
    disks = draw(st.lists(st.tuples(st.sampled_from(["file", "block", "network"]), VALUES, TREES), max_size=3))
    devices = "".join(
        f"<disk type='{kind}'><source file={quoteattr(path)} dev={quoteattr(path)}/>{more}</disk>"
        for kind, path, more in disks
    )
    return (
        f"<domain type='kvm'><name>vm-1</name><memory>{draw(st.integers(-1, 10**9))}</memory>"
        f"<vcpu>{draw(st.integers(0, 9))}</vcpu><devices>{devices}</devices>{draw(TREES)}</domain>"
    )


def outcome(text: str) -> GuestDefinition | None:
    try:
        return parse_guest(text, uuid_if_missing=UUID)
    except InvalidInput:
        return None


@given(st.one_of(st.text(), TREES, domains(), st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))))
def test_any_text_gives_a_guest_or_invalid_input(text: str) -> None:
    outcome(text)


@given(domains())
def test_normalising_twice_is_normalising_once(text: str) -> None:
    once = outcome(text)
    if once is not None:
        assert parse_guest(once.domain_xml, uuid_if_missing="") == once


@given(st.lists(st.sampled_from(["..", ".", "a", "shared", "", "b.img"]), max_size=6))
def test_no_spelling_of_a_path_leaves_a_shared_directory(parts: list[str]) -> None:
    """Compared with walking the path by hand."""
    path = "/".join(["/shared", *parts])
    text = (
        "<domain type='kvm'><name>v</name><memory>1</memory><vcpu>1</vcpu>"
        f"<devices><disk type='file'><source file='{path}'/></disk></devices></domain>"
    )
    guest = parse_guest(text, uuid_if_missing=UUID)
    walked: list[str] = ["shared"]
    for part in parts:
        if part == "..":
            walked = walked[:-1]
        elif part not in ("", "."):
            walked.append(part)
    is_below = walked[:1] == ["shared"] and len(walked) > 1
    assert (paths_outside(guest.paths, ["/shared"]) == ()) == is_below
