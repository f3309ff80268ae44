# Makes a repository with history, branches, renames, merges and a conflict resolved, packs it and checks it.
# Every date and name is fixed, so every object name is.
set -eu
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
clock=1700000000
at() { clock=$((clock + 60)); export GIT_AUTHOR_DATE="$clock +0000" GIT_COMMITTER_DATE="$clock +0000"; }

git -c init.defaultBranch=trunk init --quiet repository
cd repository
git config gc.auto 0
mkdir -p lib/deep/er docs
for file in $(seq 1 120); do
    # 1 to 600 lines each, alike enough for deltas.
    seq -f "line %g of file $file" 1 $((file * 5)) > lib/deep/er/file$file.txt
done
head -c 3000000 /dev/zero | tr '\0' 'z' > docs/big.txt
git add .
at; git commit --quiet -m 'The beginning'

for round in $(seq 1 40); do
    for file in $(seq $((round % 7 + 1)) 11 120); do
        path=lib/deep/er/file$file.txt
        [ -e "$path" ] || continue
        sed -i "$((round % 20 + 1))s/\$/ changed in round $round/" "$path"
    done
    echo "round $round" >> docs/rounds.txt
    [ $((round % 10)) -ne 0 ] || git mv "lib/deep/er/file$round.txt" "docs/moved$round.txt"
    git add -A
    at; git commit --quiet -m "Round $round"
    [ $((round % 8)) -ne 0 ] || git branch "side$round"
done
for side in 8 16 24; do
    git checkout --quiet "side$side"
    echo "side $side" > "docs/side$side.txt"
    git add -A
    at; git commit --quiet -m "Side $side"
    git checkout --quiet trunk
    at; git merge --quiet --no-edit "side$side"
done
git checkout --quiet -b quarrel side32
echo theirs > docs/rounds.txt
at; git commit --quiet -am 'Another opinion'
git checkout --quiet trunk
at; git merge --quiet quarrel || { git checkout --quiet --ours docs/rounds.txt; git add -A; at; git commit --quiet -m 'Settled'; }
at; git tag -a -m 'A tag' v1
git rebase --quiet --onto side40 side24 side24 2>&1 || git rebase --abort

git log --all --graph --format='%H %T %an %cd %s%d' --date=iso -M --numstat
git gc --quiet --aggressive --prune=now
git fsck --full --strict
git cat-file --batch-all-objects --batch-check
git blame -s lib/deep/er/file90.txt
git grep -n -E 'round (3|4)[0-9]? *$' | head -n 500
git diff --stat v1~30 v1
git archive --format=tar v1 | cksum
git clone --quiet --no-local . ../clone
git -C ../clone fsck --full
git -C ../clone rev-list --all --objects | sort | cksum
git status --short --branch
