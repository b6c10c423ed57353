"""The self-check of a container: it fetches a sealed test value, and shows that it opened it or says why not."""

from binascii import b2a_base64, unhexlify
from typing import Any

import orjson
from django.http import HttpResponse
from ninja import Router
from pydantic import Field, model_validator

from atomapi.auth import NodeRequest, sync_credential
from atomapi.body import Body
from atomapi.report import MAX_BIG
from atoms.models import Atom, Environment
from kmscore.refused import Refused
from vaults import selfcheck as selfchecks
from vaults.models import KmsAccount

router = Router()


class SelfCheckAnswer(Body):
    """Either the proof and the test value's revision, or the code of what went wrong."""

    proof: str = Field("", pattern="^([0-9a-f]{64})?$")
    revision: int = Field(0, ge=0, le=MAX_BIG)
    code: str = Field("", pattern="^[a-z0-9_]{0,64}$")

    @model_validator(mode="after")
    def _one_of_both(self) -> "SelfCheckAnswer":
        if bool(self.proof) == bool(self.code):
            raise ValueError("give a proof or a code")
        return self


@router.post("selfcheck", auth=sync_credential)
def selfcheck_value(request: NodeRequest) -> HttpResponse:
    """{environment, data_key, document, revision, sealed, challenge}: to be opened, and the challenge (hex) answered once."""
    node = request.auth.node
    environment = _environment(node.atom)
    found = selfchecks.current_value(environment)
    assert found.data_key is not None
    answer: dict[str, Any] = {
        "environment": environment.pk,
        "data_key": found.data_key_id,
        "document": found.data_key.document,
        "revision": found.revision,
        "sealed": b2a_base64(bytes(found.sealed or b""), newline=False).decode("ascii"),
        "challenge": selfchecks.challenge(node, found).hex(),
    }
    return HttpResponse(orjson.dumps(answer), content_type="application/json", headers={"Cache-Control": "no-store"})


@router.post("selfcheck/answer", auth=sync_credential)
def selfcheck_answer(request: NodeRequest, body: SelfCheckAnswer) -> HttpResponse:
    """The answer to the challenge, or why the test value could not be opened."""
    if body.code:
        selfchecks.take_failure(request.auth.node, body.code)
    else:
        selfchecks.take_answer(request.auth.node, body.revision, unhexlify(body.proof))
    return HttpResponse(status=204)


def _environment(atom: Atom) -> Environment:
    KmsAccount.refuse_inactive(atom.account)
    environment = atom.environment
    if environment is None:
        raise Refused("unattached", "The Atom is attached to no environment.")
    return environment
