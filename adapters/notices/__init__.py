"""How notices reach practices: e-mail and signed webhooks (port ``Way`` of ``services.notices``)."""

from adapters.notices.mail import MailWay
from adapters.notices.webhook import WHOLE_S, WebhookWay

__all__ = ["WHOLE_S", "MailWay", "WebhookWay"]
