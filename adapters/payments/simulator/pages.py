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
  :root {{ color-scheme: light dark; --ground: #eef0f4; --card: #fff; --ink: #1c1b26;
           --muted: #5f5c6b; --accent: #17683a; --line: #85828f; }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --ground: #12131a; --card: #1b1d27; --ink: #ebebf2; --muted: #a5a9bb;
             --accent: #1f7a48; --line: #6f7388; }}
  }}
  body {{ font: 1rem/1.55 system-ui, sans-serif; background: var(--ground); color: var(--ink);
          margin: 0; padding: 1rem; }}
  main {{ max-width: 24rem; margin: 10vh auto; padding: 2rem; background: var(--card);
          border-radius: 1rem; border-top: .4rem solid var(--accent);
          box-shadow: 0 8px 30px #0002; }}
  h1 {{ font-size: 1.35rem; line-height: 1.25; margin: 0; }}
  a {{ color: inherit; }}
  form {{ display: grid; gap: .6rem; margin-top: 1.25rem; }}
  .amount {{ font-size: 2.25rem; font-weight: 700; letter-spacing: -.02em; margin: .75rem 0; }}
  button {{ font: inherit; font-weight: 600; padding: .65rem 1rem; border-radius: .5rem;
            border: 1px solid var(--line); background: none; color: inherit; cursor: pointer; }}
  button:hover, button.primary {{ background: var(--accent); border-color: var(--accent);
                                  color: #fff; }}
  :focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; }}
  small {{ color: var(--muted); }}
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
