servers = ["https://meshca.mesh.svc:8500"]
ca_file = "/etc/meshca-roots/roots.pem"

login {
  auth_method = "kubernetes"
  token_file  = "/var/run/secrets/meshca/token"
}

identities = [{ service = "web" }]

# The volume is of this pod only, and its mode is that of Kubernetes.
folders = [{ path = "/run/meshca", shared = true, mode = "0640" }]

listen = "127.0.0.1:8502"
