# Sums what the tests in a meson test log counted: doctest's own counts, or the closing "N passed, N failed" of a program that is no doctest.
# A program that did not end well counts as one failed test unless it counted a failure itself. Fails if nothing passed or anything failed.
/^result: / { result = $0; ended_well = /exit status 0$/; failures = 0; next }
/^\[doctest\] test cases:/ { split($0, part, /[:|]/); passed += part[3]; skipped += part[5]; failures += part[4]; failed += part[4]; next }
/^[0-9]+ passed, [0-9]+ failed/ { passed += $1; failures += $3; failed += $3; skipped += $5; next }
/^=+ +[0-9]+\/[0-9]+ +=+$/ { if (result != "" && !ended_well && failures == 0) failed += 1; result = "" }
END {
  if (result != "" && !ended_well && failures == 0) failed += 1
  printf "%d passed, %d failed%s\n", passed, failed, (skipped > 0 ? sprintf(", %d skipped", skipped) : "")
  exit (passed == 0 || failed > 0)
}
