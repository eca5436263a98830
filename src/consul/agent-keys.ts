/**
 * Top-level keys of Consul's agent configuration that have no meaning for a CA; the file of an agent
 * may have them.
 * @module
 */

export const CONSUL_AGENT_KEYS: readonly string[] = (
  "acl_agent_master_token acl_agent_token acl_datacenter acl_default_policy acl_down_policy acl_enable_key_list_policy acl_master_token " +
  "acl_replication_token acl_token acl_ttl addresses advertise_addr advertise_addr_ipv4 advertise_addr_ipv6 advertise_addr_wan " +
  "advertise_addr_wan_ipv4 advertise_addr_wan_ipv6 advertise_reconnect_timeout allow_write_http_from alt_domain audit auto_config auto_encrypt " +
  "auto_reload_config autopilot bind_addr bootstrap bootstrap_expect ca_file ca_path cache cert_file check check_output_max_size " +
  "check_update_interval checks cloud config_entries datadog default_intention_policy default_query_time disable_anonymous_signature " +
  "disable_coordinates disable_host_node_id disable_http_unprintable_char_filter disable_keyring_file disable_remote_exec " +
  "disable_update_check discard_check_output discovery_max_stale dns_config domain enable_acl_replication enable_agent_tls_for_checks " +
  "enable_central_service_config enable_debug enable_local_script_checks enable_script_checks enable_syslog encrypt encrypt_verify_incoming " +
  "encrypt_verify_outgoing experiments gossip_lan gossip_wan http_config key_file leave_on_terminate license_path locality log_file " +
  "log_json log_rotate_bytes log_rotate_duration log_rotate_max_files max_query_time native_dns node_id node_meta node_name non_voting_server " +
  "partition peering performance pid_file primary_gateways primary_gateways_interval protocol raft_boltdb raft_logstore " +
  "raft_protocol raft_snapshot_interval raft_snapshot_threshold raft_trailing_logs read_replica reconnect_timeout reconnect_timeout_wan " +
  "recursors rejoin_after_leave reporting request_limits retry_interval retry_interval_wan retry_join retry_join_wan retry_max " +
  "retry_max_wan rpc segment segments serf_allowed_cidrs_lan serf_allowed_cidrs_wan serf_lan serf_wan server server_name server_rejoin_age_max " +
  "service services session_ttl_min skip_leave_on_interrupt start_join start_join_wan static_runtime_config sync_coordinate_interval_min " +
  "sync_coordinate_rate_target syslog_facility telemetry tls_cipher_suites tls_min_version tls_prefer_server_cipher_suites " +
  "translate_wan_addrs ui ui_config ui_content_path ui_dir unix_sockets use_streaming_backend verify_incoming verify_incoming_https " +
  "verify_incoming_rpc verify_outgoing verify_server_hostname version version_prerelease watches xds"
).split(" ");
