"""Who may reach whom, as the network policies say it: both ends have to agree."""

from collections.abc import Iterator, Mapping, Sequence

from tests.manifests.objects import COMPONENT, NAME, PART_OF, Manifest, of_kind, title

Arrow = tuple[str, str]
"""From and to: `portfolio-service.consume` (a process), `database`, `broker`, ..."""
PORTS = {5432: "database", 5672: "bus", 6379: "cache"}


def process(selector: Mapping[str, str]) -> str:
    return f"{selector[NAME]}.{selector[COMPONENT]}"


def out(manifests: Sequence[Manifest]) -> set[Arrow]:
    """What egress rules allow, name look-ups apart."""
    arrows: set[Arrow] = set()
    for policy in of_kind(manifests, "NetworkPolicy"):
        own = policy["spec"]["podSelector"]["matchLabels"]
        if policy["metadata"]["name"] == "names" or COMPONENT not in own:
            continue
        source = process(own) if NAME in own else own[COMPONENT]
        for opening in policy["spec"].get("egress", []):
            arrows |= {(source, target) for peer in opening["to"] for target in _targets(peer, opening)}
    return arrows


def _targets(peer: Manifest, opening: Manifest) -> Iterator[str]:
    numbers = [port["port"] for port in opening["ports"]]
    if "ipBlock" in peer:
        yield "outside:" + ",".join(str(number) for number in numbers)
    elif COMPONENT in (wanted := peer["podSelector"]["matchLabels"]):
        yield process(wanted)
    else:
        yield from (PORTS[number] for number in numbers)


def into(manifests: Sequence[Manifest]) -> set[Arrow]:
    """What ingress rules allow from our own processes."""
    arrows: set[Arrow] = set()
    for policy in of_kind(manifests, "NetworkPolicy"):
        for opening in policy["spec"].get("ingress", []):
            for peer in opening["from"]:
                if "namespaceSelector" not in peer:
                    source = process(peer["podSelector"]["matchLabels"])
                    arrows.add((source, process(policy["spec"]["podSelector"]["matchLabels"])))
    return arrows


def disagreements(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Arrows that one end allows and the other does not, and what keeps everything else out."""
    outgoing = {arrow for arrow in out(manifests) if "." in arrow[1]}
    incoming = into(manifests)
    yield from (f"{source} may call {target}, which does not let it in" for source, target in outgoing - incoming)
    yield from (f"{target} lets {source} in, which may not call it" for source, target in incoming - outgoing)
    denying = [
        policy
        for policy in of_kind(manifests, "NetworkPolicy")
        if policy["spec"]["podSelector"] == {"matchLabels": {PART_OF: "saras"}}
        and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not policy["spec"].get("ingress")
        and not policy["spec"].get("egress")
    ]
    if not denying:
        yield "nothing denies what no policy allows"
    for policy in of_kind(manifests, "NetworkPolicy"):
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for opening in policy["spec"].get(direction, []):
                if not opening.get(peers) or not opening.get("ports"):
                    yield f"{title(policy)} opens {direction} for everybody or on every port"
                for peer in opening.get(peers, []):
                    if not any(peer.get(kind) for kind in ("podSelector", "namespaceSelector", "ipBlock")):
                        yield f"{title(policy)} opens {direction} for everybody"
