# The agent of compose.yaml: certificates of two services, each in a folder in memory that only its
# service mounts.
servers    = ["https://replica-1:8500", "https://replica-2:8500", "https://replica-3:8500"]
ca_file    = "/secrets/roots.pem"
token_file = "/secrets/token"
listen     = "unix:/data/agent.sock"
cache_dir  = "/data/cache"

identities = [{ service = "web" }, { service = "api" }]

folders = [
  { path = "/run/meshca/web", identity = "web" },
  { path = "/run/meshca/api", identity = "api" },
]
