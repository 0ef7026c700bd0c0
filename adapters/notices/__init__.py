"""How notices reach practices: e-mail and signed webhooks (port ``Way`` of ``services.notices``)."""

from adapters.notices.mail import MailWay
from adapters.notices.webhook import WebhookWay

__all__ = ["MailWay", "WebhookWay"]
