"""What the routes of the simulated provider share."""

from typing import Annotated

from fastapi import Depends, Request

from adapters.payments.simulator.processor import Processor


async def processor_of(request: Request) -> Processor:
    processor: Processor = request.app.state.processor
    return processor


Provider = Annotated[Processor, Depends(processor_of)]
