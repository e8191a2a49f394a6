"""The payers' pages: a till to pay by card, and the bank's 3-D Secure. Plain HTML, no script."""

from html import escape

from adapters.payments.simulator.cards import TestMethod
from adapters.payments.simulator.intents import PaymentIntent
from domain.money import format_amount

CARDS = {
    TestMethod.VISA: "A card that pays",
    TestMethod.AUTHENTICATION_REQUIRED: "A card whose bank asks you first",
    TestMethod.DECLINED: "A card that is declined",
}
"""The cards that a payer can choose from."""

BACK_SECONDS = 2
"""How long the outcome is shown before the payer is back in the shop."""

_RESULTS = {
    "succeeded": ("Payment approved", "The payment went through. You can close this page."),
    "requires_payment_method": (
        "Payment declined",
        "Nothing was charged. You can pay with another method.",
    ),
    "canceled": ("Payment canceled", "This payment was canceled. Nothing was charged."),
    "processing": ("Payment under way", "This payment needs nothing more from you."),
}

_LAYOUT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{head}<title>{title}</title>
<style>
  body {{ font: 1.1rem/1.5 system-ui, sans-serif; background: #f3f4f6; color: #111827; margin: 0; }}
  main {{ max-width: 26rem; margin: 4rem auto; padding: 2rem; background: #fff;
    border-radius: .75rem;
          box-shadow: 0 1px 6px #0002; }}
  h1 {{ font-size: 1.4rem; margin-top: 0; }}
  .amount {{ font-size: 2rem; font-weight: 600; margin: 1rem 0; }}
  button {{ font: inherit; padding: .6rem 1.4rem; margin: 1rem .5rem 0 0; border-radius: .5rem;
            border: 1px solid #1d4ed8; background: #fff; color: #1d4ed8; cursor: pointer; }}
  button.primary {{ background: #1d4ed8; color: #fff; }}
  small {{ color: #6b7280; }}
</style>
</head>
<body><main>
{content}
<p><small>This is a simulated bank. No money moves.</small></p>
</main></body>
</html>
"""


def till(intent: PaymentIntent) -> str:
    """Asks the payer to choose a card."""
    buttons = "\n".join(
        f'<button name="payment_method" value="{escape(method)}">{escape(name)}</button>'
        for method, name in CARDS.items()
    )
    failed = intent.last_payment_error
    notice = f"<p>{escape(failed.message)} Choose another one.</p>\n" if failed else ""
    return _page(
        "Pay by card",
        f"""{notice}<p class="amount">{_amount(intent)}</p>
<p><small>{escape(intent.id)}</small></p>
<form method="post">
{buttons}
</form>""",
    )


def question(intent: PaymentIntent) -> str:
    """Asks the payer to approve or decline."""
    return _page(
        "Confirm your payment",
        f"""<p>Your bank asks you to confirm this payment:</p>
<p class="amount">{_amount(intent)}</p>
<p><small>{escape(intent.id)}</small></p>
<form method="post">
<button class="primary" name="decision" value="approve">Approve</button>
<button name="decision" value="decline">Decline</button>
</form>""",
    )


def result(intent: PaymentIntent, back: str = "") -> str:
    """The page that shows the outcome, and soon leads `back` to the shop, if it is known where that
    is."""
    title, text = _RESULTS[intent.status]
    content = (
        f'<p class="amount">{_amount(intent)}</p>\n'
        f"<p>{text}</p>\n"
        f"<p><small>{escape(intent.id)}</small></p>"
    )
    if not back:
        return _page(title, content)
    link = f'<p><a href="{escape(back)}">Back to the shop</a></p>\n'
    head = f'<meta http-equiv="refresh" content="{BACK_SECONDS};url={escape(back)}">\n'
    return _page(title, link + content, head)


def problem(title: str, text: str) -> str:
    """Tells that something about the request was wrong."""
    return _page(title, f"<p>{escape(text)}</p>")


def _page(title: str, content: str, head: str = "") -> str:
    return _LAYOUT.format(
        head=head, title=escape(title), content=f"<h1>{escape(title)}</h1>\n{content}"
    )


def _amount(intent: PaymentIntent) -> str:
    return escape(format_amount(intent.amount, intent.currency.upper()))
