"""`ludoteca audit`: a module for each group of its commands."""

import typer

from runtime.cli_commands.audit import (
    acts,
    bundles,
    comparing,
    proving,
    replaying,
    self_auditing,
    verifying,
    why,
)

app = typer.Typer(
    no_args_is_help=True,
    help="For auditors: prove that the log was not changed; see who did what, the shop as it was,"
    " and why.",
)
app.command()(verifying.verify)
app.command()(why.why)
app.command()(replaying.replay)
app.command()(comparing.diff)
app.command(name="self")(self_auditing.audit_self)
app.command()(proving.prove)
app.command()(proving.check_proof)
app.command()(proving.checkpoint)
app.command("keys")(proving.keys_)
app.command()(proving.rebuild_tree)
app.command()(bundles.bundle)
app.command()(bundles.check_bundle)
app.command()(acts.acts)
