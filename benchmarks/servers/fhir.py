"""The embedded FHIR server with a fixed latency added to every answer: python -m ... PORT LATENCY_MS"""

import sys

import uvicorn

from cds.sandbox import create_fhir_app

if __name__ == "__main__":
    port, latency_ms = int(sys.argv[1]), float(sys.argv[2])
    uvicorn.run(create_fhir_app(latency=latency_ms / 1000), port=port, access_log=False, log_level="error")
