"""Makes `twistd stellarstack` known to Twisted."""

from twisted.application.service import ServiceMaker

serviceMaker = ServiceMaker(
    "StellarStack node daemon", "stellarstack.daemon", "Runs this node's game servers.", "stellarstack"
)
