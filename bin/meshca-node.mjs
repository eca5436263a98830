#!/usr/bin/env node
/**
 * Runs the command on this Node, or reports that its version is not supported.
 * @module
 */
if (process.features.typescript) await import("../src/cli/main.ts");
else {
  process.stderr.write(
    `Cannot run on Node ${process.versions.node}: it must be Node 24.0 or newer; npm run start:node brings Node 24.21.0\n`,
  );
  // sysexits.h: EX_CONFIG.
  process.exitCode = 78;
}
