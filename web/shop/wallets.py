"""Wallets: what is in them, their statements, deposits and transfers."""

from starlette.responses import Response

from kit.currencies import EXPONENT
from web.api_client import Listed, Problem
from web.money import shown, typed
from web.routing import Router
from web.shop.answers import Movement, Transaction, Wallet
from web.visit import Visit

router = Router()

PER_PAGE = 20
CURRENCIES = sorted(EXPONENT)


@router.get("/wallet", signed_in=True)
async def show_wallets(visit: Visit) -> Response:
    """The visitor's wallets, and the form to open one."""
    return await _wallets_page(visit)


async def _wallets_page(visit: Visit, status: int = 200) -> Response:
    found = await visit.api.get("/api/v1/wallets/me", Listed[Wallet])
    return visit.page(
        "shop/wallets.html", status=status, wallets=found.items, currencies=CURRENCIES
    )


@router.post("/wallet", signed_in=True)
async def open_wallet(visit: Visit) -> Response:
    """Open a wallet."""
    body = {"currency": visit.form.text("currency")}
    try:
        made = await visit.api.post("/api/v1/wallets", body, Wallet, once=visit.form.secret("once"))
    except Problem as problem:
        visit.form.refuse(problem)
        return await _wallets_page(visit, status=422)
    return visit.go(f"/wallet/{made.id}", "Your wallet is open.")


@router.get("/wallet/{wallet_id}", signed_in=True)
async def show_wallet(visit: Visit) -> Response:
    """A wallet, its statement, and the forms that move money."""
    return await _wallet_page(visit)


async def _wallet_page(visit: Visit, sent: str = "", status: int = 200) -> Response:
    """The page; the form named `sent` shows its errors, and what was typed."""
    path = f"/api/v1/wallets/{visit.id('wallet_id')}"
    wallet = await visit.api.get(path, Wallet)
    statement = await visit.api.get(
        f"{path}/statement",
        Listed[Movement],
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    return visit.page(
        "shop/wallet.html",
        status=status,
        fragment="statement",
        wallet=wallet,
        statement=statement,
        sent=sent,
        cards=visit.site.settings.cards,
    )


@router.post("/wallet/{wallet_id}/deposit", signed_in=True)
async def deposit(visit: Visit) -> Response:
    """Pay money in, by card."""
    wallet_id = visit.id("wallet_id")
    return await _move(
        visit,
        wallet_id,
        {
            "type": "deposit",
            "to_wallet_id": wallet_id,
            "payment_method": {"type": "card", "token": visit.form.text("method")},
        },
    )


@router.post("/wallet/{wallet_id}/transfer", signed_in=True)
async def transfer(visit: Visit) -> Response:
    """Send money to another wallet."""
    wallet_id = visit.id("wallet_id")
    to_wallet_id = visit.form.text("to_wallet_id")
    body: dict[str, object] = {
        "type": "transfer",
        "from_wallet_id": wallet_id,
        "to_wallet_id": to_wallet_id,
    }
    return await _move(visit, wallet_id, body)


async def _move(visit: Visit, wallet_id: str, body: dict[str, object]) -> Response:
    """Start a transaction of the amount that was typed, and say what became of it."""
    sent = str(body["type"])
    wallet = await visit.api.get(f"/api/v1/wallets/{wallet_id}", Wallet)
    amount = typed(visit.form.text("amount"), wallet.currency)
    if amount is None or amount <= 0:
        visit.form.errors["amount"] = f"This is not an amount in {wallet.currency}."
        return await _wallet_page(visit, sent, status=422)
    body |= {"amount_cents": amount, "currency": wallet.currency}
    try:
        moved = await visit.api.post(
            "/api/v1/transactions", body, Transaction, once=visit.form.secret("once")
        )
    except Problem as problem:
        visit.form.refuse(problem, names={"amount_cents": "amount"})
        return await _wallet_page(visit, sent, status=422)
    if moved.redirect_url:
        return visit.page("shop/continue.html", url=moved.redirect_url, back=f"/wallet/{wallet_id}")
    return visit.go(f"/wallet/{wallet_id}", _told(moved, shown(amount, wallet.currency)))


def _told(moved: Transaction, amount: str) -> str:
    """What became of a deposit or a transfer."""
    if moved.status != "COMPLETED":
        return f"{amount} is under way, and will show in the statement."
    return f"You sent {amount}." if moved.type == "transfer" else f"You paid in {amount}."
