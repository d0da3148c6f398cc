"""FastAPI routers, one per resource. Each route names its permission; each answer passes ``view``."""
