servers = ["https://meshca.mesh.svc:8500"]
ca_file = "/etc/meshca-roots/roots.pem"

login {
  auth_method = "kubernetes"
  token_file  = "/var/run/secrets/meshca/token"
}

identities = [{ service = "node-gateway" }]

# Pods that use it run with the group 65532.
sockets = [
  { path = "/run/meshca/agent.sock", identities = ["node-gateway"], mode = "0660" },
]

listen = "127.0.0.1:8502"
