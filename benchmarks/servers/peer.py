"""HealthChain with an empty patient-view handler; runs in its own environment."""

from healthchain.gateway import CDSHooksService, HealthChainAPI
from healthchain.models import CDSRequest, CDSResponse

service = CDSHooksService()


@service.hook("patient-view", id="empty")
def empty(request: CDSRequest) -> CDSResponse:
    return CDSResponse(cards=[])


app = HealthChainAPI()
app.register_service(service)
