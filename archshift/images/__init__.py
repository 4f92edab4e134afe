"""Which images run on arm64, proven by what their registries hold. Unknown never counts as yes.

The front door is ``audit``; ``workload`` turns verdicts on images into verdicts on workloads.

Pure modules (values in, values out): reference, manifest, verdict, command, workload, auth, elf, rootfs,
programs. Modules that read the outside: credentials, ecr, transport, login, registry, layers, cache,
inspector, deep, suggest, audit. Nothing is imported here: who only needs a verdict's shape does not pay
for an HTTP client.
"""
