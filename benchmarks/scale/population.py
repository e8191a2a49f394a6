"""The people and games of a made-up shop, chosen as in life: few of them most often (Zipf)."""

import random
from uuid import UUID

import msgspec


class Game(msgspec.Struct, gc=False):
    """What an order needs to know of a game."""

    game_id: UUID
    seller_id: UUID
    sku: str
    title: str
    cents: int


class Person(msgspec.Struct, gc=False):
    """A buyer; `wallet_id` if they have a wallet, with `balance`."""

    user_id: UUID
    wallet_id: UUID | None = None
    balance: int = 0


class Population:
    """Who is there, what is for sale, and who owns what."""

    def __init__(self, chance: random.Random) -> None:
        self._random = chance
        self.games: list[Game] = []
        self.people: list[Person] = []
        self.sellers: list[UUID] = []
        self._owned: set[tuple[UUID, UUID]] = set()

    def person(self) -> Person:
        return self.people[_zipf(self._random, len(self.people))]

    def wanted(self, count: int) -> tuple[Person, list[Game]]:
        """Somebody, and games that they do not have yet."""
        while True:
            person, games = self.person(), list[Game]()
            for _ in range(4 * count):
                game = self.games[_zipf(self._random, len(self.games))]
                owned = (person.user_id, game.game_id)
                if owned not in self._owned:
                    self._owned.add(owned)
                    games.append(game)
                if len(games) == count:
                    return person, games
            if games:
                return person, games


def _zipf(random: random.Random, count: int) -> int:
    """An index below `count`; those of the first are chosen most often (Zipf, exponent 1)."""
    return min(int(count ** random.random()), count - 1)
