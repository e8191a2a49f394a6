"""Measures how costs grow: append, load and each query over a short, a long and a very long history,
in turn. For each, what the longer history costs, as a multiple of the shortest."""

import asyncio
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time
from uuid import uuid4

import msgspec
import psycopg

from benchmarks.http.cpu import Cpu
from benchmarks.measuring import Line, Log, Ratio, Table
from benchmarks.scale.archive import fill, write
from benchmarks.scale.costs import cost
from benchmarks.scale.history import History
from benchmarks.scale.queries import known, pages
from benchmarks.server import Server, connect_as_program
from commands.aggregates import ORDER, WALLET
from domain.wallets import FundsAdded
from eventstore.consumers import checkpoints
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.snapshots import Snapshots
from projections.engine.runner import Runner
from projections.registry import read_models
from runtime.wiring.codec import codec

AIM = 1.2
"""The largest multiple."""
