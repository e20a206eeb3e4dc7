"""gunicorn behind a buffering proxy: ``gunicorn -c deploy/gunicorn.conf.py 'service.app:from_environment()'``."""

import os

from service.web_server import when_ready  # noqa: F401 - a hook that gunicorn looks up by its name

bind = f"0.0.0.0:{os.environ.get('SECATEUR_PORT', '8080')}"
worker_class = "service.web_server.Worker"  # threads: an upload or an event stream holds a thread, not the process
workers = int(os.environ.get("SECATEUR_WEB_WORKERS", "2"))
threads = int(os.environ.get("SECATEUR_WEB_THREADS", "16"))
timeout = 60
graceful_timeout = 30  # shorter than the platform's own grace period
keepalive = 65  # longer than the proxy's, so that the proxy closes first
worker_tmp_dir = "/dev/shm"  # noqa: S108 - the root is read-only, and a heartbeat file on a disk can block
forwarded_allow_ips = os.environ.get("SECATEUR_PROXY_IPS", "127.0.0.1")
accesslog = None  # audit lines and metrics say more, and no key is ever in them
