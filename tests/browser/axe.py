"""What axe-core finds wrong with a page. `axe.min.js` is axe-core 4.14.1, unchanged, from the npm
registry; its licence, the Mozilla Public License 2.0, is in `axe.LICENSE.txt`."""

from pathlib import Path

from playwright.async_api import Page

_AXE = Path(__file__).with_name("axe.min.js").read_text(encoding="utf-8")

# Style sheets are not fetched again ("preload"), as axe-core would put them into inline styles.
_RUN = """async (rules) => {
  const options = rules.length ? {runOnly: {type: "rule", values: rules}} : {};
  const found = await axe.run(document, {resultTypes: ["violations"], preload: false, ...options});
  const why = (node) => node.any.map((each) => each.message).join(" ");
  const told = (node) => `${node.target.join(" ")} (${why(node)})`;
  return found.violations.map((each) => `${each.help}: ${each.nodes.map(told).join("; ")}`);
}"""


async def violations(page: Page, *rules: str) -> list[str]:
    """What breaks these rules, or any rule, on the page as it is now."""
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(_AXE)
    found: list[str] = await page.evaluate(_RUN, list(rules))
    return found


async def must_be_accessible(page: Page) -> None:
    """Hold a page to all rules, and to those of contrast in the dark, too."""
    await page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found = await violations(page)
    await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found += [f"dark: {each}" for each in await violations(page, "color-contrast")]
    assert not found, page.url + "\n" + "\n".join(found)
