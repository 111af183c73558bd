# Checks what the guest said: first the announcements (the second serial line), then the end (the third). Prints what is wrong, a line
# each, and a summary; see scripts/power-cut.
function fail(text) { print "FAIL " text; failures++ }
function value(line) { sub(/^[^:]*: /, "", line); sub(/,$/, "", line); gsub(/"/, "", line); return line }
# The set of indexes of "1,3-5" as keys of a.
function expand(text, a,    parts, n, i, ends, k) {
    delete a
    n = split(text, parts, ",")
    for (i = 1; i <= n; i++) {
        if (split(parts[i], ends, "-") == 2) for (k = ends[1]; k <= ends[2]; k++) a[k] = 1
        else a[parts[i] + 0] = 1
    }
}
FNR == 1 { file++ }
{ sub(/\r$/, "") }

# Announcements: `boot N`, then objects as they are printed, one key a line.
file == 1 && /^boot / { boot = $2; open = 0 }
file == 1 && /^\{/ { open = 1; name = ""; done = ""; count = 0; end = "" }
file == 1 && open && /^    "name": / { name = value($0) }
file == 1 && open && /^    "completedIndexes": / { done = value($0) }
file == 1 && open && /^    "succeeded": / { count = value($0) + 0 }
file == 1 && open && /^        "type": "(Complete|Failed)"/ { end = value($0) }
file == 1 && open && /^\}/ && name != "" {
    open = 0
    announced++
    if (count < best[name]) fail(name ": " count " successes in boot " boot ", " best[name] " were announced before")
    best[name] = count
    expand(done, now)
    for (key in was) if (split(key, part, SUBSEP) == 2 && part[1] == name && !(part[2] in now))
        fail(name ": index " part[2] " is no longer completed in boot " boot)
    for (i in now) if (!((name, i) in was)) was[name, i] = boot
    if (over[name] != "" && end != over[name]) fail(name ": was " over[name] ", is \"" end "\" in boot " boot)
    if (end != "" && over[name] == "") { over[name] = end; over_in[name] = boot }
}

# The end: the ledger, then the pods.
file == 2 && /^unfinished / { fail($2 " did not come to its end") }
file == 2 && /^ledger / {
    split($2, part, ".")
    if (part[5] == "start") {
        starts++
        if ((part[1], part[2]) in was && part[3] > was[part[1], part[2]])
            fail(part[1] ": index " part[2] " ran in boot " part[3] ", it was completed in boot " was[part[1], part[2]])
        if (over[part[1]] != "" && part[3] > over_in[part[1]])
            fail(part[1] ": ran in boot " part[3] ", it was over in boot " over_in[part[1]])
    } else ends[part[1], part[2], substr(part[5], 4)]++
}
file == 2 && /"batch.kubernetes.io\/job-completion-index": / { index_of = value($0) }
file == 2 && /"batch.kubernetes.io\/job-name": / { job_of = value($0) }
file == 2 && /^      "spec": / { in_status = 0 }
file == 2 && /^      "status": / { in_status = 1 }
file == 2 && in_status && /"containerStatuses": / { in_mains = 1 }
file == 2 && in_mains && /"exitCode": / { code = value($0); exits++; seen[job_of, index_of + 0, code]++ }
file == 2 && in_mains && /^        \]/ { in_mains = 0 }
file == 2 && /^    \}/ { index_of = 0; job_of = ""; in_status = 0; in_mains = 0 }
file == 2 && /^all said/ { complete = 1 }

END {
    if (!complete) fail("the guest did not come to its end")
    for (key in seen) {
        split(key, part, SUBSEP)
        if (part[3] != 0 && part[3] != 7 && part[3] != 137) fail(part[1] ": nobody left with " part[3])
        else if (part[3] != 137 && seen[key] > ends[key])
            fail(part[1] ": index " part[2] " has " seen[key] " ends with " part[3] ", " ends[key] + 0 " took place")
    }
    for (key in was) {
        split(key, part, SUBSEP)
        if (!((part[1], part[2], 0) in ends)) fail(part[1] ": index " part[2] " is completed, and no run of it ended with 0")
    }
    printf "%d announcements, %d runs, %d recorded ends: %d failures\n", announced, starts, exits, failures
    exit failures > 0
}
