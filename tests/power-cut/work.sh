# What the jobs run: work.sh JOB SECONDS [CODE-OF-THE-FIRST-TRY]. Begin and end are files with names of their own, each synced before
# the next thing happens; what is there was done.
job=$1 index=${JOB_COMPLETION_INDEX:-0} first=${3:-0}
me=$job.$index.$(cat /ledger/boot).$(cat /proc/sys/kernel/random/uuid)
code=0
[ "$first" = 0 ] || ls /ledger/"$job.$index".*.end* >/dev/null 2>&1 || code=$first
echo | dd of="/ledger/$me.start" conv=fsync 2>/dev/null
sleep "$2"
echo | dd of="/ledger/$me.end$code" conv=fsync 2>/dev/null
exit $code
