//! Who gets which partitions: balanced, and nothing moves that need not.

/// Shares partitions out among members, who are numbered from 0.
///
/// `current` names for each partition the member that has it, if that one is still there. The numbers of partitions of
/// two members differ by one at most, and as few partitions move as that allows. The same arguments give the same
/// result, always.
pub(super) fn assign(current: &[Option<usize>], members: usize) -> Vec<Option<usize>> {
    if members == 0 {
        return vec![None; current.len()];
    }
    let mut counts = vec![0; members];
    for member in current.iter().flatten() {
        if let Some(count) = counts.get_mut(*member) {
            *count += 1;
        }
    }
    let mut quotas = quotas(&counts, current.len());
    let mut assigned: Vec<Option<usize>> = current
        .iter()
        .map(|member| {
            let quota = quotas.get_mut((*member)?)?;
            *quota = usize::checked_sub(*quota, 1)?;
            *member
        })
        .collect();
    let open = quotas.iter().enumerate().flat_map(|(member, quota)| std::iter::repeat_n(member, *quota));
    for (free, member) in assigned.iter_mut().filter(|member| member.is_none()).zip(open) {
        *free = Some(member);
    }
    assigned
}

/// How many partitions each member is to have. Those that have most now get the ones that are left over.
fn quotas(counts: &[usize], partitions: usize) -> Vec<usize> {
    let (least, more) = (partitions / counts.len(), partitions % counts.len());
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|member| std::cmp::Reverse(counts.get(*member)));
    let mut quotas = vec![least; counts.len()];
    for member in order.into_iter().take(more) {
        if let Some(quota) = quotas.get_mut(member) {
            *quota += 1;
        }
    }
    quotas
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moved(before: &[Option<usize>], after: &[Option<usize>]) -> usize {
        before.iter().zip(after).filter(|(before, after)| before.is_some() && before != after).count()
    }

    #[test]
    fn a_newcomer_takes_only_its_share() {
        let before = assign(&[None; 6], 2);
        assert_eq!(before, [0, 0, 0, 1, 1, 1].map(Some));
        let after = assign(&before, 3);
        assert_eq!(after, [0, 0, 2, 1, 1, 2].map(Some));
    }

    #[test]
    fn more_members_than_partitions_leave_some_without() {
        assert_eq!(assign(&[Some(3), None], 4), [3, 0].map(Some));
        assert_eq!(assign(&[Some(0)], 0), [None]);
    }

    proptest! {
        #[test]
        fn shares_are_balanced_and_as_little_moves_as_can_be(
            owners in proptest::collection::vec(proptest::option::of(0usize..9), 0..60), members in 1usize..9,
        ) {
            let current: Vec<_> = owners.into_iter().map(|owner| owner.filter(|owner| *owner < members)).collect();
            let after = assign(&current, members);
            prop_assert_eq!(&assign(&current, members), &after);
            let count = |of: &[Option<usize>], member| of.iter().filter(|owner| **owner == Some(member)).count();
            let counts: Vec<usize> = (0..members).map(|member| count(&after, member)).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), current.len());
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{counts:?}");
            // Nobody can keep more than the larger share, nor can more members have it than there is left over.
            let (share, more) = (current.len() / members, current.len() % members);
            let had: Vec<usize> = (0..members).map(|member| count(&current, member)).collect();
            let above = had.iter().filter(|had| **had > share).count();
            let must: usize = had.iter().map(|had| had.saturating_sub(share)).sum::<usize>() - above.min(more);
            prop_assert_eq!(moved(&current, &after), must);
            prop_assert_eq!(assign(&after, members), after);
        }
    }
}
